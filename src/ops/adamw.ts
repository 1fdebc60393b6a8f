import kernel from "../../kernels/adamw.wgsl";
import { ShapeError } from "../base/errors";
import { elements, formatShape, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { CaseInput, ReferenceTensor } from "../op/declaration";
import { elementwiseLaunches } from "./shared/elementwise";
import { at, input } from "./shared/reference";

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
  infer(context) {
    const p = context.spec("p").shape;
    for (const slot of ["m", "v", "g"]) {
      const { shape } = context.spec(slot);
      if (!sameShape(shape, p)) {
        throw new ShapeError(
          `adamw: ${slot} ${formatShape(shape)} differs from p ${formatShape(p)}.`,
          "Pass moments and gradient with the parameter's shape.",
        );
      }
    }
    for (const [slot, size] of Object.entries({ total: 1, loss: 1, hyper: ADAMW_HYPER_SIZE })) {
      const { shape } = context.spec(slot);
      if (elements(shape) !== size) {
        throw new ShapeError(`adamw: ${slot} is ${formatShape(shape)}.`, `Pass it with the shape [${size}].`);
      }
    }
    return {};
  },
  forward: (context) =>
    elementwiseLaunches(
      {
        kernel,
        entry: "forward",
        tensors: ["p", "m", "v", "g"],
        whole: ["total", "loss", "hyper"],
        count: elements(context.spec("p").shape),
        params: () => ({ weight_decay: context.attributes.weightDecay }),
      },
      context.limits,
    ),
  gradients: [],
  flops: (context) => 15 * elements(context.spec("p").shape),
  reference(inputs, { weightDecay }) {
    const hyper = input(inputs, "hyper");
    const [learningRate, rate1, beta2, rate2] = [at(hyper, 0), at(hyper, 1), at(hyper, 2), at(hyper, 3)];
    const [epsilon, correction1, correction2, maxNorm] = [at(hyper, 4), at(hyper, 5), at(hyper, 6), at(hyper, 7)];
    const [total, loss, g] = [at(input(inputs, "total"), 0), at(input(inputs, "loss"), 0), input(inputs, "g")];
    const [p, m, v] = [copy(input(inputs, "p")), copy(input(inputs, "m")), copy(input(inputs, "v"))];
    if (!Number.isFinite(total) || !Number.isFinite(loss)) return { p, m, v };
    const clip = maxNorm > 0 ? Math.min(1, maxNorm / (Math.sqrt(total) + 1e-6)) : 1;
    for (let i = 0; i < p.data.length; i++) {
      const gradient = at(g, i) * clip;
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
      inputs: {
        p: { shape: [4], dtype: "f32" },
        m: { shape: [3], dtype: "f32" },
        v: { shape: [4], dtype: "f32" },
        g: { shape: [4], dtype: "f32" },
        total: { shape: [1], dtype: "f32" },
        loss: { shape: [1], dtype: "f32" },
        hyper: { shape: [8], dtype: "f32" },
      },
      message: /m \[3\] differs from p \[4\]/,
    },
    {
      name: "hyper of six numbers",
      attributes: { weightDecay: 0 },
      inputs: {
        p: { shape: [4], dtype: "f32" },
        m: { shape: [4], dtype: "f32" },
        v: { shape: [4], dtype: "f32" },
        g: { shape: [4], dtype: "f32" },
        total: { shape: [1], dtype: "f32" },
        loss: { shape: [1], dtype: "f32" },
        hyper: { shape: [6], dtype: "f32" },
      },
      message: /hyper is \[6\]/,
    },
  ],
});

function copy({ shape, data }: ReferenceTensor): ReferenceTensor {
  return { shape, data: data.slice() };
}

/** Parameter, moments and gradient of a case. The second moments are well above zero. */
function stateInputs(shape: readonly number[]): Record<string, CaseInput> {
  return { p: { shape }, m: { shape, scale: 0.1 }, v: { shape, scale: 0.02, offset: 0.2 }, g: { shape } };
}

/** Hyperparameters, total and loss of a case. */
function stepInputs({
  total = 1,
  loss = 0.7,
  ...step
}: Partial<AdamwStep> & { readonly total?: number; readonly loss?: number }): Record<string, CaseInput> {
  const defaults = { learningRate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, step: 1, maxNorm: 0 };
  return {
    total: { shape: [1], values: [total] },
    loss: { shape: [1], values: [loss] },
    hyper: { shape: [ADAMW_HYPER_SIZE], values: [...adamwHyper({ ...defaults, ...step })] },
  };
}
