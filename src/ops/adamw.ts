import kernel from "../../kernels/adamw.wgsl";
import { elements } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext } from "../op/declaration";
import type { Launch } from "../op/launch";
import { elementwiseLaunches } from "./shared/elementwise";
import { checkUpdate } from "./shared/parameter-update";

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
export const adamw = defineOp({
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
  infer: (context: InferContext<AdamwAttributes>) => checkUpdate(context, "adamw", ["m", "v"], ADAMW_HYPER_SIZE),
  forward: (context) => adamLaunches(context, false),
  gradients: [],
  flops: (context) => 15 * elements(context.spec("p").shape),
});
