import { ShapeError } from "../base/errors";
import { elements, formatShape, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import { ADAMW_HYPER_SIZE } from "./adamw";
import { muonLaunches } from "./shared/muon";
import { at, filled, input, zeros } from "./shared/reference";
import { checkJudged, clippedGradient, copied, judgedStep, updateSpecs } from "./shared/parameter-update";

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
export const muonMomentum = defineOp<MuonMomentumAttributes>({
  name: "muon_momentum",
  inputs: { m: { mutated: true }, g: {}, total: {}, loss: {}, hyper: {} },
  outputs: ["u"],
  infer(context) {
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
  reference(inputs, { momentum, nesterov }) {
    const m = copied(inputs, "m");
    const g = clippedGradient(inputs, at(input(inputs, "hyper"), 7));
    if (!g) return { m, u: zeros(m.shape) };
    for (let i = 0; i < m.data.length; i++) m.data[i] = momentum * at(m, i) + (1 - momentum) * g(i);
    const u = (i: number): number => (nesterov ? (1 - momentum) * g(i) + momentum * at(m, i) : at(m, i));
    return { m, u: filled(m.shape, u) };
  },
  cases: [
    {
      name: "Nesterov's, clipped, odd size",
      attributes: { momentum: 0.95, nesterov: true },
      inputs: { m: { shape: [5, 13] }, g: { shape: [5, 13] }, ...judgedStep([0, 0, 0, 0, 0, 0, 0, 1], { total: 30 }) },
    },
    {
      name: "plain momentum",
      attributes: { momentum: 0.9, nesterov: false },
      inputs: { m: { shape: [4, 6] }, g: { shape: [4, 6] }, ...judgedStep([0, 0, 0, 0, 0, 0, 0, 0]) },
    },
    {
      name: "one element",
      attributes: { momentum: 0.5, nesterov: true },
      inputs: { m: { shape: [1] }, g: { shape: [1] }, ...judgedStep([0, 0, 0, 0, 0, 0, 0, 0]) },
    },
    {
      name: "loss not finite: no step",
      attributes: { momentum: 0.95, nesterov: true },
      inputs: { m: { shape: [70] }, g: { shape: [70] }, ...judgedStep([0, 0, 0, 0, 0, 0, 0, 0], { loss: NaN }) },
    },
    {
      name: "elements that can be split over bindings",
      attributes: { momentum: 0.95, nesterov: true },
      inputs: { m: { shape: [37, 152] }, g: { shape: [37, 152] }, ...judgedStep([0, 0, 0, 0, 0, 0, 0, 0]) },
    },
    {
      name: "BERT-base feed-forward weight",
      attributes: { momentum: 0.95, nesterov: true },
      inputs: { m: { shape: [3072, 768] }, g: { shape: [3072, 768] }, ...judgedStep([0, 0, 0, 0, 0, 0, 0, 1]) },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "momentum of another shape",
      attributes: { momentum: 0.95, nesterov: true },
      inputs: withoutP(updateSpecs(["m"], ADAMW_HYPER_SIZE, { m: [3] })),
      message: /m \[3\] differs from g \[4\]/,
    },
  ],
});

function withoutP<T>({ p: _, ...others }: Record<string, T>): Record<string, T> {
  return others;
}
