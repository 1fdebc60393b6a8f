// The part of step 4 that lets this page take part in a run of several devices.
import type { Together } from "../../protocol";
import { field, h } from "../dom";

export interface TogetherForm {
  readonly element: HTMLElement;
  /** The run that the user asks for; undefined where this page trains alone. */
  asked(): Together | undefined;
}

/** Address, name and token of a run. The token is kept nowhere. */
export function togetherForm(): TogetherForm {
  const input = (properties: Readonly<Record<string, string | number>>) =>
    h("input", { type: "text", autocomplete: "off", spellcheck: "false", ...properties });
  const server = input({ placeholder: "ws://127.0.0.1:8080" });
  const run = input({ placeholder: "reviews" });
  const token = input({ type: "password" });
  const devices = input({ type: "number", min: 1, value: 2 });
  const element = h(
    "details",
    {},
    h("summary", {}, "Train with other devices"),
    h(
      "p",
      {},
      "Devices that open the same model, data and plan, and give the same name here, train one adapter together. ",
      "Messages go over a NATS server of yours. Leave the address empty to train alone.",
    ),
    field("Address of the server", server),
    field("Name of the run", run),
    field("Token of the run", token, "Only devices that give the same one are let in."),
    field("Devices to wait for", devices, "Others may join later."),
  );
  return {
    element,
    asked() {
      if (server.value.trim() === "") return undefined;
      const [servers, name] = [server.value.trim(), run.value.trim()];
      return { servers, run: name, devices: Number(devices.value), ...(token.value !== "" && { token: token.value }) };
    },
  };
}
