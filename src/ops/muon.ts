import { elements } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext } from "../op/declaration";
import { ADAMW_HYPER_SIZE } from "./adamw";
import { muonLaunches } from "./shared/muon";
import { checkUpdate } from "./shared/parameter-update";

export type MuonAttributes = {
  /** Decoupled weight decay: each step multiplies the parameter by 1 - learningRate * weightDecay. */
  readonly weightDecay: number;
  /** Factor of the learning rate, by the parameter's shape. */
  readonly scale: number;
};

/**
 * The last part of a step of Muon (Jordan et al. 2024): p <- p (1 - lr weightDecay) - lr scale g, where g is the orthogonalised momentum.
 * If loss or total is not finite, p stays as it is. p, g [...] of one shape, total [1] (sum of squares of all gradients), loss [1],
 * hyper [8] by `adamwHyper`.
 */
export const muon = defineOp({
  name: "muon",
  inputs: { p: { mutated: true }, g: {}, total: {}, loss: {}, hyper: {} },
  outputs: [],
  infer: (context: InferContext<MuonAttributes>) => checkUpdate(context, "muon", [], ADAMW_HYPER_SIZE),
  forward(context) {
    const { weightDecay, scale } = context.attributes;
    const launches = muonLaunches(
      {
        entry: "forward",
        tensors: ["p", "g"],
        whole: ["total", "loss", "hyper"],
        count: elements(context.spec("p").shape),
      },
      () => ({ weight_decay: weightDecay, scale }),
      context.limits,
    );
    return launches.map(({ bindings: { g, ...others }, ...launch }) => ({ ...launch, bindings: { ...others, y: g! } }));
  },
  gradients: [],
  flops: (context) => 4 * elements(context.spec("p").shape),
});
