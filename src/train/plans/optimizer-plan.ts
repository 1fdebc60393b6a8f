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
import { elements } from "../../base/shape";
import type { Shape } from "../../base/shape";
import type { OptimizerOptions } from "../options";
import { aligned } from "../tensors/arenas";
import type { Arenas } from "../tensors/arenas";
import { gradientName, maskName, momentNames, spanName } from "../tensors/names";

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
  /** Where tensors lie side by side. Default nowhere. */
  readonly arenas?: Arenas;
}

/** Live tensors that lie side by side and have the same settings: one launch reads or updates all of them. */
interface Span {
  readonly first: string;
  readonly group: ParameterGroup;
  /** Shape of the tensor, or [n] of several with the zeros between them. */
  readonly shape: Shape;
  /** Key of each of the tensors' values, gradients and moments in the store, given that of the first tensor. */
  readonly key: (first: string) => string;
}

/** The live tensors in their order, joined where they lie side by side. */
function spansOf(
  live: ReadonlyMap<string, TensorSpec>,
  group: (name: string) => ParameterGroup,
  arenas: Arenas = new Map(),
): Span[] {
  const spans: Span[] = [];
  let previousName = "";
  for (const [name, spec] of live) {
    const [last, place, previous] = [spans.at(-1), arenas.get(name), arenas.get(previousName)];
    const settings = group(name);
    const isNext =
      place !== undefined &&
      place.arena === previous?.arena &&
      place.index === previous.index + 1 &&
      settings.input === last?.group.input &&
      settings.weightDecay === last.group.weightDecay;
    if (last && isNext) {
      const shape = [aligned(4 * elements(last.shape)) / 4 + elements(spec.shape)];
      spans[spans.length - 1] = { ...last, shape, key: spanName };
    } else {
      spans.push({ first: name, group: settings, shape: spec.shape, key: (first) => first });
    }
    previousName = name;
  }
  return spans;
}

/** Masks gradients and sums their squares, span by span. */
function recordNorm(
  recorder: Recorder,
  live: ReadonlyMap<string, TensorSpec>,
  spans: readonly Span[],
  masked: ReadonlySet<string> = new Set(),
): Value {
  for (const [name, { shape }] of live) {
    if (!masked.has(name)) continue;
    const x = recorder.parameter(gradientName(name), shape);
    recorder.record(applyMask, { x, mask: recorder.parameter(maskName(name), shape) }, {});
  }
  let total: Value | undefined;
  for (const { first, shape, key } of spans) {
    total = recorder.apply(squareSum, { x: recorder.parameter(key(gradientName(first)), shape), previous: total }, {});
  }
  return total!;
}

/**
 * The plan that gives loss and gradient norm of a step ahead of its update, so that whatever reads the gradients in between
 * sees only finite ones.
 */
export function normPlan(
  live: ReadonlyMap<string, TensorSpec>,
  settings: OptimizerSettings,
  limits: Limits,
  { masked, arenas, group = defaultGroup(settings) }: Pick<UpdateOptions, "masked" | "arenas" | "group"> = {},
): Plan {
  const recorder = new Recorder();
  // A plan has no inputs that no op reads: the loss passes through an op that keeps its bits.
  const loss = recorder.apply(scale, { x: recorder.input(LOSS, [1]) }, { factor: 1 });
  const total = recordNorm(recorder, live, spansOf(live, group, arenas), masked);
  return plan(recorder, { outputs: { [SQUARE_SUM]: total, [LOSS]: loss }, effects: true, staged: true, limits });
}

const defaultGroup =
  (settings: OptimizerSettings) =>
  (name: string): ParameterGroup =>
    parameterGroup(settings, name, false);

/** The plan of one optimizer step over the live tensors: masks, the global norm, AdamW on each span, soft thresholds. */
export function updatePlan(
  live: ReadonlyMap<string, TensorSpec>,
  settings: OptimizerSettings,
  limits: Limits,
  { masked, proximal, arenas, group = defaultGroup(settings) }: UpdateOptions = {},
): Plan {
  const recorder = new Recorder();
  const loss = recorder.input(LOSS, [1]);
  const spans = spansOf(live, group, arenas);
  const total = recordNorm(recorder, live, spans, masked);
  for (const {
    first,
    shape,
    key,
    group: { input, weightDecay },
  } of spans) {
    const [p, m, v, g] = [first, ...momentNames(first), gradientName(first)].map((name) =>
      recorder.parameter(key(name), shape),
    );
    const inputs = { p, m, v, g, total, loss, hyper: recorder.input(input, [ADAMW_HYPER_SIZE]) };
    recorder.labelled(key(first), () => recorder.record(adamw, inputs, { weightDecay }));
  }
  for (const [name, { shape }] of live) {
    const bound = proximal?.(name);
    if (bound === undefined) continue;
    const p = recorder.parameter(name, shape);
    recorder.labelled(name, () => recorder.record(softThreshold, { p, total, loss }, { bound }));
  }
  return plan(recorder, { outputs: { [SQUARE_SUM]: total, [LOSS]: loss }, effects: true, staged: true, limits });
}

/** A hyperparameter input of the update plan. @param step from 1. */
export function hyperParameters(settings: OptimizerSettings, learningRate: number, step: number): Float32Array {
  const [beta1, beta2] = settings.betas;
  const { eps: epsilon, maxGradNorm: maxNorm } = settings;
  return adamwHyper({ learningRate, beta1, beta2, epsilon, step, maxNorm });
}
