import kernel from "../../kernels/adamw.wgsl";
import { elements } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { CaseInput, LaunchContext } from "../op/declaration";
import type { Launch } from "../op/launch";
import { elementwiseLaunches } from "./shared/elementwise";
import { at, input } from "./shared/reference";
import { checkUpdate, clippedGradient, copied, judgedStep, updateInputs, updateSpecs } from "./shared/parameter-update";
import type { TotalAndLoss } from "./shared/parameter-update";

export type AdamwAttributes = {
  /** Decoupled weight decay: each step multiplies the parameter by 1 - learningRate * weightDecay. */
  readonly weightDecay: number;
};

/** Hyperparameters of one AdamW step. */
export interface AdamwStep {
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Number of this step, from 1. Each tensor counts its own, since frozen tensors take no steps. */
  readonly step: number;
  /** Maximum norm of all gradients together; 0 for no clipping. */
  readonly maxNorm: number;
}

/** Number of elements of the `hyper` tensor. */
export const ADAMW_HYPER_SIZE = 8;

/** The `hyper` tensor [8] of the op `adamw`. Differences from 1 are taken here, in float64. */
export function adamwHyper({ learningRate, beta1, beta2, epsilon, step, maxNorm }: AdamwStep): Float32Array {
  const corrections = [1 - beta1 ** step, 1 - beta2 ** step] as const;
  return Float32Array.of(learningRate, 1 - beta1, beta2, 1 - beta2, epsilon, ...corrections, maxNorm);
}

/** The launches of AdamW, or of Adam, whose decay is coupled: a part of the gradient. */
export const adamLaunches = (context: LaunchContext<AdamwAttributes>, isCoupled: boolean): Launch[] =>
  elementwiseLaunches(
    {
      kernel,
      entry: "forward",
      tensors: ["p", "m", "v", "g"],
      whole: ["total", "loss", "hyper"],
      count: elements(context.spec("p").shape),
      constants: { COUPLED: isCoupled ? 1 : 0 },
      params: () => ({ weight_decay: context.attributes.weightDecay }),
    },
    context.limits,
  );

/**
 * One step of AdamW (Loshchilov and Hutter 2019, algorithm 2) with clipping by the global norm, as in PyTorch. If loss
 * or total is not finite, p, m and v stay as they are. p, m, v, g [...] of one shape, total [1] (sum of squares of all
 * gradients), loss [1], hyper [8] by `adamwHyper`.
 */
export const adamw = defineOp<AdamwAttributes>({
  name: "adamw",
  inputs: {
    p: { mutated: true },
    m: { mutated: true },
    v: { mutated: true },
    g: {},
    total: {},
    loss: {},
    hyper: {},
  },
  outputs: [],
  infer: (context) => checkUpdate(context, "adamw", ["m", "v"], ADAMW_HYPER_SIZE),
  forward: (context) => adamLaunches(context, false),
  gradients: [],
  flops: (context) => 15 * elements(context.spec("p").shape),
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
});

/** Parameter, moments and gradient of a case. The second moments are well above zero. */
export function stateInputs(shape: readonly number[]): Record<string, CaseInput> {
  return { ...updateInputs(shape, ["m"]), v: { shape, scale: 0.02, offset: 0.2 } };
}

/** Hyperparameters, total and loss of a case. */
export function stepInputs({ total, loss, ...step }: Partial<AdamwStep> & TotalAndLoss): Record<string, CaseInput> {
  const defaults = { learningRate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, step: 1, maxNorm: 0 };
  return judgedStep(adamwHyper({ ...defaults, ...step }), { total, loss });
}
