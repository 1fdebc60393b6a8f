import kernel from "../../kernels/lion.wgsl";
import { elements } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext } from "../op/declaration";
import { elementwiseLaunches } from "./shared/elementwise";
import { checkUpdate } from "./shared/parameter-update";

export type LionAttributes = {
  /** Decoupled weight decay: each step multiplies the parameter by 1 - learningRate * weightDecay. */
  readonly weightDecay: number;
};

/** Number of elements of the `hyper` tensor: learning rate, 1 - beta1, 1 - beta2, maximum norm or 0. */
export const LION_HYPER_SIZE = 4;

/**
 * One step of Lion (Chen et al. 2023, algorithm 2) with clipping by the global norm: every element moves by the learning rate, in
 * the direction of a mean of gradient and momentum. If loss or total is not finite, p and m stay as they are. p, m, g [...] of one
 * shape, total [1] (sum of squares of all gradients), loss [1], hyper [4].
 */
export const lion = defineOp({
  name: "lion",
  inputs: { p: { mutated: true }, m: { mutated: true }, g: {}, total: {}, loss: {}, hyper: {} },
  outputs: [],
  infer: (context: InferContext<LionAttributes>) => checkUpdate(context, "lion", ["m"], LION_HYPER_SIZE),
  forward: (context) =>
    elementwiseLaunches(
      {
        kernel,
        entry: "forward",
        tensors: ["p", "m", "g"],
        whole: ["total", "loss", "hyper"],
        count: elements(context.spec("p").shape),
        params: () => ({ weight_decay: context.attributes.weightDecay }),
      },
      context.limits,
    ),
  gradients: [],
  flops: (context) => 9 * elements(context.spec("p").shape),
});
