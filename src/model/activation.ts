import { gelu } from "../ops/gelu";
import { relu } from "../ops/relu";
import { silu } from "../ops/silu";
import type { Recorder, Value } from "../tape/tape";
import type { Activation } from "./model";

/** Activations by their names in config.json. */
export const ACTIVATIONS: Readonly<Record<string, Activation>> = {
  relu: "relu",
  gelu: "gelu",
  gelu_new: "gelu_tanh",
  gelu_pytorch_tanh: "gelu_tanh",
  silu: "silu",
  swish: "silu",
};

/** Records an activation of x [...]. */
export function activate(recorder: Recorder, activation: Activation, x: Value): Value {
  if (activation === "relu" || activation === "silu") {
    return recorder.apply(activation === "relu" ? relu : silu, { x }, {});
  }
  return recorder.apply(gelu, { x }, { approximation: activation === "gelu" ? "none" : "tanh" });
}
