import { ShapeError } from "../base/errors";
import { elements, formatShape, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext } from "../op/declaration";
import { ADAMW_HYPER_SIZE } from "./adamw";
import { muonLaunches } from "./shared/muon";
import { checkJudged } from "./shared/parameter-update";

export type MuonMomentumAttributes = {
  /** Share of the last mean that stays. */
  readonly momentum: number;
  /** Whether the mean is mixed with the gradient once more (Nesterov). */
  readonly nesterov: boolean;
};

/**
 * The momentum of Muon (Jordan et al. 2024), as in torch.optim.Muon, with clipping by the global norm: m <- m + (1 - momentum) (g - m),
 * and u is m, or g + momentum (m - g) with Nesterov's. If loss or total is not finite, m stays as it is and u is 0. m, g, u [...] of
 * one shape, total [1] (sum of squares of all gradients), loss [1], hyper [8] by `adamwHyper`.
 */
export const muonMomentum = defineOp({
  name: "muon_momentum",
  inputs: { m: { mutated: true }, g: {}, total: {}, loss: {}, hyper: {} },
  outputs: ["u"],
  infer(context: InferContext<MuonMomentumAttributes>) {
    const [m, g] = [context.spec("m").shape, context.spec("g").shape];
    if (!sameShape(m, g)) {
      throw new ShapeError(
        `muon_momentum: m ${formatShape(m)} differs from g ${formatShape(g)}.`,
        "Pass the momentum with the gradient's shape.",
      );
    }
    checkJudged(context, "muon_momentum", ADAMW_HYPER_SIZE);
    return { u: { shape: g, dtype: "f32" } };
  },
  forward(context) {
    const { momentum, nesterov } = context.attributes;
    const count = elements(context.spec("g").shape);
    return muonLaunches(
      { entry: "momentum", tensors: ["m", "g", "u"], whole: ["total", "loss", "hyper"], count },
      () => ({ momentum, is_nesterov: nesterov ? 1 : 0 }),
      context.limits,
    );
  },
  gradients: [],
  flops: (context) => 6 * elements(context.spec("g").shape),
});
