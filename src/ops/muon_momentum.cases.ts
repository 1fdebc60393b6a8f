import type { TestsOf } from "../op/declaration";
import { ADAMW_HYPER_SIZE } from "./adamw";
import { at, filled, input, zeros } from "./shared/reference";
import { clippedGradient, copied, judgedStep, updateSpecs } from "./shared/parameter-update.cases";
import type { muonMomentum } from "./muon_momentum";

export const muonMomentumTests: TestsOf<typeof muonMomentum> = {
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
};

function withoutP<T>({ p: _, ...others }: Record<string, T>): Record<string, T> {
  return others;
}
