import { ConfigError } from "../../base/errors";
import { occurs } from "../../base/regexp";
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

/** Optimizer options with their defaults filled in. */
export type OptimizerSettings = Required<Omit<OptimizerOptions, OwnSettings>> & Pick<OptimizerOptions, OwnSettings>;

/** Options that give some tensors settings of their own. */
type OwnSettings = "noDecay" | "headLearningRate";

/** @throws ConfigError for negative or infinite values, or betas that are not below 1. */
export function optimizerSettings(options: OptimizerOptions = {}): OptimizerSettings {
  const settings: OptimizerSettings = {
    learningRate: 1e-3,
    betas: [0.9, 0.999],
    eps: 1e-8,
    weightDecay: 0,
    maxGradNorm: 0,
    ...options,
  };
  const { learningRate, headLearningRate = learningRate, betas, eps, weightDecay, maxGradNorm } = settings;
  const isValid =
    [learningRate, headLearningRate, eps, weightDecay, maxGradNorm].every(
      (value) => value >= 0 && Number.isFinite(value),
    ) && betas.every((beta) => beta >= 0 && beta < 1);
  if (isValid) return settings;
  throw new ConfigError(
    `The optimizer has learningRate ${learningRate}, headLearningRate ${headLearningRate}, betas ${betas.join(", ")}, eps ${eps}, weightDecay ${weightDecay}, maxGradNorm ${maxGradNorm}.`,
    "Give numbers from 0, and betas below 1.",
  );
}

/** Settings of AdamW that some tensors have in common. */
export interface ParameterGroup {
  /** Name of the update plan's input that holds the hyperparameters of a step. */
  readonly input: string;
  /** Before the schedule. */
  readonly learningRate: number;
  readonly weightDecay: number;
}

/** The group of a tensor. @param isHead whether it belongs to the task's head. */
export function parameterGroup(settings: OptimizerSettings, name: string, isHead: boolean): ParameterGroup {
  const headLearningRate = isHead ? settings.headLearningRate : undefined;
  return {
    input: headLearningRate === undefined ? "hyper" : "hyper of the head",
    learningRate: headLearningRate ?? settings.learningRate,
    weightDecay: settings.noDecay && occurs(settings.noDecay, name) ? 0 : settings.weightDecay,
  };
}

/** Output of the update plan and the norm plan: the sum of squares of all gradients [1]. */
export const SQUARE_SUM = "square sum";
/** Input and output of the update plan and the norm plan: the loss of the step [1]. */
export const LOSS = "loss";

export interface UpdateOptions {
  /** Tensors whose gradients are masked. Default none. */
  readonly masked?: ReadonlySet<string>;
  /** Bound of the soft threshold that follows the update of a tensor; undefined for none. Default none. */
  readonly proximal?: (name: string) => number | undefined;
  /** The group of a tensor. Default that of a tensor outside the head. */
  readonly group?: (name: string) => ParameterGroup;
}

/** Masks gradients and sums their squares. */
function recordNorm(
  recorder: Recorder,
  live: ReadonlyMap<string, TensorSpec>,
  masked: ReadonlySet<string> | undefined,
): Value {
  let total: Value | undefined;
  for (const [name, { shape }] of live) {
    const x = recorder.parameter(gradientName(name), shape);
    if (masked?.has(name)) recorder.record(applyMask, { x, mask: recorder.parameter(maskName(name), shape) }, {});
    total = recorder.apply(squareSum, { x, previous: total }, {});
  }
  return total!;
}

/**
 * The plan that gives loss and gradient norm of a step ahead of its update, so that whatever reads the gradients in between
 * sees only finite ones.
 */
export function normPlan(
  live: ReadonlyMap<string, TensorSpec>,
  limits: Limits,
  { masked }: Pick<UpdateOptions, "masked"> = {},
): Plan {
  const recorder = new Recorder();
  // A plan has no inputs that no op reads: the loss passes through an op that keeps its bits.
  const loss = recorder.apply(scale, { x: recorder.input(LOSS, [1]) }, { factor: 1 });
  const total = recordNorm(recorder, live, masked);
  return plan(recorder, { outputs: { [SQUARE_SUM]: total, [LOSS]: loss }, effects: true, staged: true, limits });
}

/** The plan of one optimizer step over the live tensors: masks, the global norm, then AdamW on each tensor. */
export function updatePlan(
  live: ReadonlyMap<string, TensorSpec>,
  settings: OptimizerSettings,
  limits: Limits,
  { masked, proximal, group = (name) => parameterGroup(settings, name, false) }: UpdateOptions = {},
): Plan {
  const recorder = new Recorder();
  const loss = recorder.input(LOSS, [1]);
  const total = recordNorm(recorder, live, masked);
  for (const [name, { shape }] of live) {
    const [firstMoment, secondMoment] = momentNames(name);
    const p = recorder.parameter(name, shape);
    const { input, weightDecay } = group(name);
    const inputs = {
      p,
      total,
      loss,
      m: recorder.parameter(firstMoment, shape),
      v: recorder.parameter(secondMoment, shape),
      g: recorder.parameter(gradientName(name), shape),
      hyper: recorder.input(input, [ADAMW_HYPER_SIZE]),
    };
    const bound = proximal?.(name);
    recorder.labelled(name, () => {
      recorder.record(adamw, inputs, { weightDecay });
      if (bound !== undefined) recorder.record(softThreshold, { p, total, loss }, { bound });
    });
  }
  return plan(recorder, { outputs: { [SQUARE_SUM]: total, [LOSS]: loss }, effects: true, staged: true, limits });
}

/** A hyperparameter input of the update plan. @param step from 1. */
export function hyperParameters(settings: OptimizerSettings, learningRate: number, step: number): Float32Array {
  const [beta1, beta2] = settings.betas;
  const { eps: epsilon, maxGradNorm: maxNorm } = settings;
  return adamwHyper({ learningRate, beta1, beta2, epsilon, step, maxNorm });
}
