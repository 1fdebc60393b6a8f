import { ConfigError } from "../../base/errors";
import type { TensorSpec } from "../../op/declaration";
import type { Limits } from "../../op/limits";
import { ADAMW_HYPER_SIZE, adamw, adamwHyper } from "../../ops/adamw";
import { applyMask } from "../../ops/apply_mask";
import { scale } from "../../ops/scale";
import { softThreshold } from "../../ops/soft_threshold";
import { squareSum } from "../../ops/square_sum";
import { plan } from "../../tape/plan";
import type { Plan } from "../../tape/plan";
import { Recorder } from "../../tape/tape";
import type { Value } from "../../tape/tape";
import type { OptimizerOptions } from "../options";
import { gradientName, maskName, momentNames } from "../tensors/names";

export type OptimizerSettings = Required<Omit<OptimizerOptions, "noDecay">> & Pick<OptimizerOptions, "noDecay">;

/** @throws ConfigError for values that make no sense. */
export function optimizerSettings(options: OptimizerOptions = {}): OptimizerSettings {
  const settings: OptimizerSettings = {
    learningRate: 1e-3,
    betas: [0.9, 0.999] as const,
    eps: 1e-8,
    weightDecay: 0,
    maxGradNorm: 0,
    ...options,
  };
  const { learningRate, betas, eps, weightDecay, maxGradNorm } = settings;
  const isFine =
    [learningRate, eps, weightDecay, maxGradNorm].every((value) => value >= 0 && Number.isFinite(value)) &&
    betas.every((beta) => beta >= 0 && beta < 1);
  if (isFine) return settings;
  throw new ConfigError(
    `The optimizer has learningRate ${learningRate}, betas ${betas.join(", ")}, eps ${eps}, weightDecay ${weightDecay}, maxGradNorm ${maxGradNorm}.`,
    "Give numbers from 0, and betas below 1.",
  );
}

/** Outputs of the update's plan: sum of squares of all gradients, and the loss that it was given. */
export const SQUARE_SUM = "square sum";
export const LOSS = "loss";

export interface UpdateOptions {
  /** Tensors whose gradient is masked. */
  readonly masked?: ReadonlySet<string>;
  /** Bound of the soft threshold after a tensor's update. */
  readonly proximal?: ((name: string) => number | undefined) | undefined;
  /** Name of the input with a tensor's hyperparameters; default "hyper" for all. */
  readonly hyper?: (name: string) => string;
}

type GradientOf = (name: string, spec: TensorSpec) => Value;

/** Masks gradients, and sums their squares. */
function recordNorm(
  recorder: Recorder,
  live: ReadonlyMap<string, TensorSpec>,
  gradient: GradientOf,
  masked: ReadonlySet<string> | undefined,
): Value {
  let total: Value | undefined;
  for (const [name, spec] of live) {
    const x = gradient(name, spec);
    if (masked?.has(name)) recorder.record(applyMask, { x, mask: recorder.parameter(maskName(name), spec.shape) }, {});
    total = recorder.apply(squareSum, { x, previous: total }, {});
  }
  return total!;
}

/** What tells whether a step is finite, ahead of its update, for what reads the gradients in between. */
export function normPlan(
  live: ReadonlyMap<string, TensorSpec>,
  limits: Limits,
  { masked }: Pick<UpdateOptions, "masked"> = {},
): Plan {
  const recorder = new Recorder();
  // What no op reads has no place in a plan: the loss goes through one that keeps its bits.
  const loss = recorder.apply(scale, { x: recorder.input(LOSS, [1]) }, { factor: 1 });
  const gradient: GradientOf = (name, { shape }) => recorder.parameter(gradientName(name), shape);
  const total = recordNorm(recorder, live, gradient, masked);
  return plan(recorder, { outputs: { [SQUARE_SUM]: total, [LOSS]: loss }, effects: true, staged: true, limits });
}

/** One optimizer step over the live tensors: masks, the global norm, then AdamW on each. */
export function updatePlan(
  live: ReadonlyMap<string, TensorSpec>,
  settings: OptimizerSettings,
  limits: Limits,
  { masked, proximal, hyper = () => "hyper" }: UpdateOptions = {},
): Plan {
  const recorder = new Recorder();
  const loss = recorder.input(LOSS, [1]);
  const gradient: GradientOf = (name, { shape }) => recorder.parameter(gradientName(name), shape);
  const total = recordNorm(recorder, live, gradient, masked);
  for (const [name, spec] of live) {
    const p = recorder.parameter(name, spec.shape);
    const [m, v] = momentNames(name).map((moment) => recorder.parameter(moment, spec.shape));
    const weightDecay = settings.noDecay?.test(name) ? 0 : settings.weightDecay;
    const own = { m, v, g: gradient(name, spec), hyper: recorder.input(hyper(name), [ADAMW_HYPER_SIZE]) };
    const bound = proximal?.(name);
    recorder.labelled(name, () => {
      recorder.record(adamw, { p, total, loss, ...own }, { weightDecay });
      if (bound !== undefined) recorder.record(softThreshold, { p, total, loss }, { bound });
    });
  }
  return plan(recorder, {
    outputs: { [SQUARE_SUM]: total, [LOSS]: loss },
    effects: true,
    staged: true,
    limits,
  });
}

/** What the update needs beside gradients; `step` counts from 1. */
export function hyperParameters(settings: OptimizerSettings, learningRate: number, step: number): Float32Array {
  const [beta1, beta2] = settings.betas;
  const { eps: epsilon, maxGradNorm: maxNorm } = settings;
  return adamwHyper({ learningRate, beta1, beta2, epsilon, step, maxNorm });
}
