import { ConfigError } from "../base/errors";
import { startPolicy } from "../freeze/policy";
import type { FreezeContext, Policy, Progress } from "../freeze/policy";

/** A score for every layer's adapter. */
export type LayerScores = readonly number[];

export interface FreezeScheduleOptions {
  readonly steps: number;
  readonly stepsPerEpoch: number;
  /** Transformer layers, one adapter each. */
  readonly layers: number;
  /** Scores of all layers at a step. */
  readonly scores: (step: number) => LayerScores;
}

/** A moment at which the policy was asked. */
export interface ScheduleMoment {
  readonly step: number;
  readonly epoch: number;
  /** What scores are held against, or the share that is to be frozen; undefined for a policy without either. */
  readonly level: number | undefined;
  readonly scores: LayerScores;
  /** Tensors whose adapter freezes now, by layer; A and B may freeze apart. */
  readonly frozen: readonly string[];
}

export interface FreezeSchedule {
  readonly moments: readonly ScheduleMoment[];
  /** What `level` is, as the policy names it. */
  readonly levelName: string | undefined;
  /** Step at which each layer's adapter is wholly frozen; undefined for one that never is. */
  readonly frozenAt: readonly (number | undefined)[];
  readonly record: Readonly<Record<string, unknown>>;
}

/** Tensors of a layer's adapter, as policies that look at names know them. */
const tensorsOf = (layer: number): string[] => [`layer.${layer}.lora_A.weight`, `layer.${layer}.lora_B.weight`];

/**
 * What a policy would freeze and when, if its scores were these: nothing is trained.
 * @throws ConfigError for a policy that decides by memory or gradients, or lengths that make no sense.
 */
export async function freezeSchedule(policy: Policy, options: FreezeScheduleOptions): Promise<FreezeSchedule> {
  const { steps, stepsPerEpoch, layers, scores } = options;
  for (const [name, value] of Object.entries({ steps, stepsPerEpoch, layers })) {
    if (Number.isInteger(value) && value >= 1) continue;
    throw new ConfigError(`A schedule has ${name} ${value}.`, "Give a whole number from 1.");
  }
  const run = startPolicy(policy, { layers, totalSteps: steps, stepsPerEpoch });
  const live = new Map(Array.from({ length: layers }, (_, layer) => [layer, tensorsOf(layer)]));
  const frozenAt = Array.from<number | undefined>({ length: layers });
  const moments: ScheduleMoment[] = [];
  for (let step = 0; step <= steps; step++) {
    const progress: Progress = { step, totalSteps: steps, stepsPerEpoch };
    if (run.kind !== "freezing" || !run.state.isDue(progress)) continue;
    const now = checkScores(scores(step), layers);
    const frozen = await run.state.decide(contextOf(policy, progress, layers, new Map(live), now));
    for (const [layer, names] of [...live]) {
      const left = names.filter((name) => !frozen.includes(name));
      if (left.length > 0) live.set(layer, left);
      else {
        live.delete(layer);
        frozenAt[layer] = step;
      }
    }
    moments.push({ step, epoch: step / stepsPerEpoch, level: run.state.level?.(progress).value, scores: now, frozen });
  }
  const end = { step: steps, totalSteps: steps, stepsPerEpoch };
  const levelName = run.kind === "freezing" ? run.state.level?.(end).name : undefined;
  return { moments, levelName, frozenAt, record: { name: policy.name, ...policy.settings, ...run.state.record?.() } };
}

function checkScores(scores: LayerScores, layers: number): LayerScores {
  if (scores.length === layers && scores.every(Number.isFinite)) return scores;
  throw new ConfigError(`There are ${scores.length} scores for ${layers} layers.`, "Give one number for every layer.");
}

function contextOf(
  policy: Policy,
  progress: Progress,
  layers: number,
  live: FreezeContext["live"],
  scores: LayerScores,
): FreezeContext {
  const byTensor = [...live].flatMap(([layer, names]) => names.map((name) => [name, scores[layer]!] as const));
  const unknown = (): never => {
    throw new ConfigError(
      `The policy ${policy.name} decides by what a model needs, which a schedule does not know.`,
      "Draw a policy of scores, as safe or aflora.",
    );
  };
  return {
    ...progress,
    layers,
    live,
    effect: unknown,
    explain: unknown,
    bytesWith: unknown,
    importance: () => Promise.resolve(new Map(scores.entries())),
    sensitivity: () => Promise.resolve(new Map(byTensor)),
    elementSensitivity: () => Promise.resolve(new Map(byTensor.map(([name, score]) => [name, Float32Array.of(score)]))),
  };
}
