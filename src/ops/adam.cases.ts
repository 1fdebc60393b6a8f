import type { TestsOf } from "../op/declaration";
import { ADAMW_HYPER_SIZE } from "./adamw";
import { stateInputs, stepInputs } from "./adamw.cases";
import { at, input } from "./shared/reference";
import { clippedGradient, copied, updateSpecs } from "./shared/parameter-update.cases";
import type { adam } from "./adam";

export const adamTests: TestsOf<typeof adam> = {
  reference(inputs, { weightDecay }) {
    const [
      learningRate = 0,
      rate1 = 0,
      beta2 = 0,
      rate2 = 0,
      epsilon = 0,
      correction1 = 0,
      correction2 = 0,
      maxNorm = 0,
    ] = input(inputs, "hyper").data;
    const [p, m, v] = [copied(inputs, "p"), copied(inputs, "m"), copied(inputs, "v")];
    const g = clippedGradient(inputs, maxNorm);
    if (!g) return { p, m, v };
    for (let i = 0; i < p.data.length; i++) {
      const gradient = g(i) + weightDecay * at(p, i);
      m.data[i] = at(m, i) + rate1 * (gradient - at(m, i));
      v.data[i] = beta2 * at(v, i) + rate2 * gradient * gradient;
      const denominator = Math.sqrt(at(v, i)) / Math.sqrt(correction2) + epsilon;
      p.data[i] = at(p, i) - ((learningRate / correction1) * at(m, i)) / denominator;
    }
    return { p, m, v };
  },
  cases: [
    {
      name: "later step, clipped, decay, odd size",
      attributes: { weightDecay: 0.1 },
      inputs: { ...stateInputs([5, 13]), ...stepInputs({ step: 100, maxNorm: 1, total: 30 }) },
    },
    {
      name: "first step, one element",
      attributes: { weightDecay: 0 },
      inputs: { ...stateInputs([1]), ...stepInputs({ learningRate: 0.01 }) },
    },
    {
      name: "gradients not finite: no step",
      attributes: { weightDecay: 0.1 },
      inputs: { ...stateInputs([70]), ...stepInputs({ total: Infinity }) },
    },
    {
      name: "elements that can be split over bindings",
      attributes: { weightDecay: 0.01 },
      inputs: { ...stateInputs([37, 152]), ...stepInputs({ step: 1000 }) },
    },
    {
      name: "BERT-base feed-forward weight",
      attributes: { weightDecay: 0.01 },
      inputs: { ...stateInputs([3072, 768]), ...stepInputs({ step: 10, maxNorm: 1 }) },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "gradient of another shape",
      attributes: { weightDecay: 0 },
      inputs: updateSpecs(["m", "v"], ADAMW_HYPER_SIZE, { g: [5] }),
      message: /adam: g \[5\] differs from p \[4\]/,
    },
  ],
};
