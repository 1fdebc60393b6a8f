import { geglu } from "../ops/geglu";
import { gelu } from "../ops/gelu";
import { mul } from "../ops/mul";
import { relu } from "../ops/relu";
import { silu } from "../ops/silu";
import { swiglu } from "../ops/swiglu";
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
  return recorder.apply(gelu, { x }, { approximation: approximationOf(activation) });
}

/** Records a gated unit (Shazeer 2020): activation(gate) * up, all [...] of one shape. It is one op where there is one. */
export function activateGate(
  recorder: Recorder,
  activation: Activation,
  inputs: { readonly gate: Value; readonly up: Value },
): Value {
  if (activation === "silu") return recorder.apply(swiglu, inputs, {});
  if (activation !== "relu") return recorder.apply(geglu, inputs, { approximation: approximationOf(activation) });
  return recorder.apply(mul, { a: activate(recorder, activation, inputs.gate), b: inputs.up }, {});
}

const approximationOf = (activation: "gelu" | "gelu_tanh"): "none" | "tanh" =>
  activation === "gelu" ? "none" : "tanh";
