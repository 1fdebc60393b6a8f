import type { CaseInput, TestsOf } from "../op/declaration";
import { at, input } from "./shared/reference";
import { clippedGradient, copied, judgedStep, updateInputs, updateSpecs } from "./shared/parameter-update.cases";
import type { TotalAndLoss } from "./shared/parameter-update.cases";
import { ADAMW_HYPER_SIZE, adamwHyper } from "./adamw";
import type { AdamwStep, adamw } from "./adamw";

export const adamwTests: TestsOf<typeof adamw> = {
  reference(inputs, { weightDecay }) {
    const hyper = input(inputs, "hyper");
    const [learningRate, rate1, beta2, rate2] = [at(hyper, 0), at(hyper, 1), at(hyper, 2), at(hyper, 3)];
    const [epsilon, correction1, correction2, maxNorm] = [at(hyper, 4), at(hyper, 5), at(hyper, 6), at(hyper, 7)];
    const [p, m, v] = [copied(inputs, "p"), copied(inputs, "m"), copied(inputs, "v")];
    const g = clippedGradient(inputs, maxNorm);
    if (!g) return { p, m, v };
    for (let i = 0; i < p.data.length; i++) {
      const gradient = g(i);
      m.data[i] = at(m, i) + rate1 * (gradient - at(m, i));
      v.data[i] = beta2 * at(v, i) + rate2 * gradient * gradient;
      const denominator = Math.sqrt(at(v, i)) / Math.sqrt(correction2) + epsilon;
      const decayed = at(p, i) * (1 - learningRate * weightDecay);
      p.data[i] = decayed - ((learningRate / correction1) * at(m, i)) / denominator;
    }
    return { p, m, v };
  },
  cases: [
    {
      name: "first step of the golden run, decay 0.1",
      attributes: { weightDecay: 0.1 },
      inputs: {
        p: { shape: [3], values: [1, -2, 0.5] },
        g: { shape: [3], values: [0.1, -0.2, 0.3] },
        m: { shape: [3], values: [0, 0, 0] },
        v: { shape: [3], values: [0, 0, 0] },
        ...stepInputs({ step: 1, learningRate: 0.01 }),
      },
    },
    {
      name: "later step, clipped, odd size",
      attributes: { weightDecay: 0.01 },
      inputs: { ...stateInputs([5, 13]), ...stepInputs({ step: 100, maxNorm: 1, total: 30 }) },
    },
    {
      name: "norm below the largest, one element",
      attributes: { weightDecay: 0 },
      inputs: { ...stateInputs([1]), ...stepInputs({ step: 2, maxNorm: 1, total: 0.3 }) },
    },
    {
      name: "loss not finite: no step",
      attributes: { weightDecay: 0.1 },
      inputs: { ...stateInputs([70]), ...stepInputs({ step: 3, loss: NaN }) },
    },
    {
      name: "gradients not finite: no step",
      attributes: { weightDecay: 0.1 },
      inputs: { ...stateInputs([70]), ...stepInputs({ step: 3, total: Infinity }) },
    },
    {
      name: "elements that can be split over bindings",
      attributes: { weightDecay: 0.01 },
      inputs: { ...stateInputs([37, 50]), ...stepInputs({ step: 1000 }) },
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
      name: "moment of another shape",
      attributes: { weightDecay: 0 },
      inputs: updateSpecs(["m", "v"], ADAMW_HYPER_SIZE, { m: [3] }),
      message: /m \[3\] differs from p \[4\]/,
    },
    {
      name: "hyper of six numbers",
      attributes: { weightDecay: 0 },
      inputs: updateSpecs(["m", "v"], ADAMW_HYPER_SIZE, { hyper: [6] }),
      message: /hyper is \[6\]/,
    },
  ],
};

/** Parameter, moments and gradient of a case. The second moments are well above zero. */
export function stateInputs(shape: readonly number[]): Record<string, CaseInput> {
  return { ...updateInputs(shape, ["m"]), v: { shape, scale: 0.02, offset: 0.2 } };
}

/** Hyperparameters, total and loss of a case. */
export function stepInputs({ total, loss, ...step }: Partial<AdamwStep> & TotalAndLoss): Record<string, CaseInput> {
  const defaults = { learningRate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, step: 1, maxNorm: 0 };
  return judgedStep(adamwHyper({ ...defaults, ...step }), { total, loss });
}
