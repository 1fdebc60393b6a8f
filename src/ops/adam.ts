import { elements } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext } from "../op/declaration";
import { ADAMW_HYPER_SIZE, adamLaunches, adamw } from "./adamw";
import type { AdamwAttributes } from "./adamw";
import { checkUpdate } from "./shared/parameter-update";

/**
 * One step of Adam (Kingma and Ba 2015, algorithm 1) with clipping by the global norm and L2 decay, which is added to the clipped
 * gradient, as in torch.optim.Adam. Slots, shapes and what is not finite as in `adamw`; hyper [8] by `adamwHyper`.
 */
export const adam = defineOp({
  name: "adam",
  inputs: adamw.inputs,
  outputs: [],
  infer: (context: InferContext<AdamwAttributes>) => checkUpdate(context, "adam", ["m", "v"], ADAMW_HYPER_SIZE),
  forward: (context) => adamLaunches(context, true),
  gradients: [],
  flops: (context) => 15 * elements(context.spec("p").shape),
});
