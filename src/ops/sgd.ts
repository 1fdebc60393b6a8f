import kernel from "../../kernels/sgd.wgsl";
import { elements } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext } from "../op/declaration";
import { elementwiseLaunches } from "./shared/elementwise";
import { checkUpdate } from "./shared/parameter-update";

export type SgdAttributes = {
  /** Coupled decay: this times the parameter is added to the clipped gradient. */
  readonly weightDecay: number;
  /** Share of the last velocity that stays. Without m it has no effect. */
  readonly momentum: number;
  /** Whether the gradient is added to the velocity once more (Nesterov). */
  readonly nesterov: boolean;
};

/** Number of elements of the `hyper` tensor: learning rate, share of the gradient in the velocity, maximum norm or 0. */
export const SGD_HYPER_SIZE = 3;

/**
 * One step of SGD with momentum and clipping by the global norm, as in torch.optim.SGD. If loss or total is not finite, p and
 * m stay as they are. p, m (the velocity; left out for momentum 0), g [...] of one shape, total [1] (sum of squares of all gradients),
 * loss [1], hyper [3].
 */
export const sgd = defineOp({
  name: "sgd",
  inputs: { p: { mutated: true }, m: { mutated: true, optional: true }, g: {}, total: {}, loss: {}, hyper: {} },
  outputs: [],
  infer: (context: InferContext<SgdAttributes>) => checkUpdate(context, "sgd", ["m"], SGD_HYPER_SIZE),
  forward(context) {
    const { weightDecay, momentum, nesterov } = context.attributes;
    const hasMomentum = context.has("m");
    return elementwiseLaunches(
      {
        kernel,
        entry: hasMomentum ? "forward" : "forward_plain",
        tensors: hasMomentum ? ["p", "m", "g"] : ["p", "g"],
        whole: ["total", "loss", "hyper"],
        count: elements(context.spec("p").shape),
        params: () => ({ weight_decay: weightDecay, momentum, is_nesterov: nesterov ? 1 : 0 }),
      },
      context.limits,
    );
  },
  gradients: [],
  flops: (context) => 8 * elements(context.spec("p").shape),
});
