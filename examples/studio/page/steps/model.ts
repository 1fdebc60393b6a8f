// Step 1: the model that learns.
import { STORAGE_FULL } from "../../protocol";
import type { GivenFile, ModelSource, StoredItem } from "../../protocol";
import { button, field, fill, h, tiles } from "../dom";
import { dropZone } from "../files";
import { bytes, count } from "../format";
import { persist } from "../storage";
import type { Step, Studio } from "../studio";

const TASK_WORDS = {
  classify: "classify texts",
  answer: "write answers",
  text: "continue texts",
  images: "classify images",
} as const;

/** What to do in this browser where it has no WebGPU. */
function withoutGpu(agent: string): string {
  if (/Firefox\//.test(agent))
    return "In Firefox, WebGPU is there from version 141 on Windows and 145 on macOS; elsewhere set dom.webgpu.enabled in about:config, or use Chrome or Edge.";
  if (/Chrome\//.test(agent))
    return "In Chrome or Edge, turn on graphics acceleration in the settings under System. On Linux, start it with --enable-unsafe-webgpu --enable-features=Vulkan.";
  if (/Safari\//.test(agent)) return "In Safari, WebGPU is there from version 26 on macOS, iOS and iPadOS 26.";
  return "Use a current Chrome, Edge, Firefox or Safari.";
}

export function modelStep(studio: Studio): Step {
  const facts = h("div", { "aria-live": "polite" });
  const kept = h("div");
  const gpu = h("p", { class: "quiet" });
  const next = button("Next: data", () => studio.go("data"), { class: "primary", disabled: true });

  const open = (source: ModelSource): void => {
    if (!studio.mayReplaceRun()) return;
    void studio.attempt(async () => {
      studio.say("Opening the model ...");
      studio.model = await studio.client.call("openModel", source);
      [studio.data, studio.form, studio.plan, studio.run] = [undefined, undefined, undefined, undefined];
      studio.say(`${studio.model.name} is open.`);
    });
  };
  const keep = (): void => {
    void studio.attempt(
      async () => {
        await persist();
        studio.model = await studio.client.call("keepModel");
        studio.say("The model's files are stored in this browser.");
        studio.storageChanged();
      },
      ({ fault }) => (fault.name === STORAGE_FULL ? [studio.storedButton()] : []),
    );
  };
  const address = h("input", {
    type: "text",
    spellcheck: "false",
    autocapitalize: "none",
    placeholder: "https://.../model/ or OWNER/NAME",
  });
  const token = h("input", { type: "password", autocomplete: "off" });
  const fetchForm = h(
    "form",
    { class: "row" },
    field("Address, or name on the Hugging Face Hub", address),
    field("Token, for models that ask for one", token, "Stays in this page's memory."),
    h("button", { type: "submit" }, "Fetch"),
  );
  fetchForm.addEventListener("submit", (event) => {
    event.preventDefault();
    const source = { kind: "url", url: address.value } as const;
    open(token.value === "" ? source : { ...source, token: token.value });
  });
  const element = h(
    "div",
    {},
    h(
      "p",
      {},
      "A model as the Hugging Face Hub has it: config.json, model.safetensors, tokenizer.json. Nothing leaves this browser.",
    ),
    gpu,
    h(
      "p",
      { class: "buttons" },
      button("Use the example: a small BERT", () => open({ kind: "shipped" }), {
        "data-id": "shipped",
        class: "primary",
      }),
    ),
    dropZone("Or drop the folder of a model here.", (files: readonly GivenFile[]) => open({ kind: "files", files }), {
      files: undefined,
      folder: "Choose a folder",
    }),
    h("details", {}, h("summary", {}, "Or fetch one from an address"), fetchForm),
    kept,
    facts,
    h("p", { class: "buttons" }, next),
  );

  void studio.client.call("gpu").then(
    ({ description, isSoftware }) =>
      fill(gpu, `GPU: ${description}${isSoftware ? ", which computes on the processor: small models only" : ""}.`),
    (error: unknown) => {
      const reason = error instanceof Error ? error.message.split("\n", 1)[0]! : String(error);
      gpu.classList.add("fact");
      fill(gpu, `Training needs WebGPU. ${reason} ${withoutGpu(navigator.userAgent)}`);
    },
  );
  studio.onStored.push(() => void showKept(studio, kept, open));
  studio.storageChanged();

  return {
    name: "model",
    title: "Model",
    element,
    isOpen: () => true,
    update({ model, isBusy }) {
      next.disabled = !model || isBusy;
      if (!model) fill(facts);
      else
        fill(
          facts,
          tiles([
            ["model", model.name],
            ["family", model.family],
            ["can learn to", model.tasks.map((task) => TASK_WORDS[task]).join(", ")],
            ["layers", String(model.layers)],
            ["parameters", count(model.parameters)],
            ["weights", bytes(model.bytes)],
            ["longest row", model.maxLength === undefined ? "no limit" : `${model.maxLength} tokens`],
            ["its own classes", model.labels.length > 0 ? model.labels.slice(0, 8).join(", ") : "none"],
            ["chat template", model.hasChatTemplate ? "yes" : "no"],
            ["licence", model.licence ?? "not stated"],
          ]),
          !model.isKept &&
            h(
              "p",
              { class: "buttons" },
              button("Keep a copy in this browser", keep, { disabled: isBusy }),
              h("small", {}, "Then a run goes on after a reload without the folder."),
            ),
        );
    },
  };
}

/** Lists the models in this browser's storage. */
async function showKept(studio: Studio, place: HTMLElement, open: (source: ModelSource) => void): Promise<void> {
  const items: readonly StoredItem[] = await studio.client.call("stored");
  const models = items.filter(({ name }) => name.startsWith("models/"));
  if (models.length === 0) fill(place);
  else
    fill(
      place,
      h("h3", {}, "Kept in this browser"),
      h(
        "ul",
        { class: "plain" },
        ...models.map(({ name, bytes: size }) => {
          const short = name.slice("models/".length);
          return h(
            "li",
            {},
            button(`Open ${short}`, () => open({ kind: "kept", name: short })),
            ` ${bytes(size)}`,
          );
        }),
      ),
    );
}
