import { ConfigError } from "../base/errors";
import { startPolicy } from "../freeze/policy";
import type { FreezeContext, Policy, Progress } from "../freeze/policy";

/** Scores of the adapters, by layer. */
export type LayerScores = readonly number[];

export interface FreezeScheduleOptions {
  /** Optimizer steps of the run. */
  readonly steps: number;
  readonly stepsPerEpoch: number;
  /** Transformer layers. Each has one LoRA. */
  readonly layers: number;
  /** Scores of all layers at a step. */
  readonly scores: (step: number) => LayerScores;
}

/** A decision of the policy. */
export interface ScheduleMoment {
  /** Optimizer steps before the decision. */
  readonly step: number;
  readonly epoch: number;
  /** Threshold of the scores, or share to freeze; undefined for a policy without either. */
  readonly level: number | undefined;
  readonly scores: LayerScores;
  /** Names of the tensors that freeze now. The A and the B of a LoRA may freeze at different steps. */
  readonly frozen: readonly string[];
}

/** What a policy freezes, and when. */
export interface FreezeSchedule {
  readonly moments: readonly ScheduleMoment[];
  /** The policy's name for `level`. */
  readonly levelName: string | undefined;
  /** Step after which all tensors of a layer are frozen, by layer; undefined for a layer that never is. */
  readonly frozenAt: readonly (number | undefined)[];
  /** What the policy says of the complete run, for example that it froze less than asked. */
  readonly remark: string | undefined;
  /** Name, settings and final state of the policy. */
  readonly record: Readonly<Record<string, unknown>>;
}

/** Names of a layer's tensors, for policies that select tensors by name. */
const tensorsOf = (layer: number): string[] => [`layer.${layer}.lora_A.weight`, `layer.${layer}.lora_B.weight`];

/**
 * Computes what a policy would freeze and when, given the scores of the layers. Nothing is trained.
 * @throws ConfigError for a policy that decides by memory or gradients, or for lengths that are not whole numbers from 1.
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
    const layerScores = checkScores(scores(step), layers);
    const frozen = await run.state.decide(contextOf(policy, progress, layers, new Map(live), layerScores));
    for (const [layer, names] of [...live]) {
      const stillLive = names.filter((name) => !frozen.includes(name));
      if (stillLive.length > 0) live.set(layer, stillLive);
      else {
        live.delete(layer);
        frozenAt[layer] = step;
      }
    }
    const level = run.state.level?.(progress).value;
    moments.push({ step, epoch: step / stepsPerEpoch, level, scores: layerScores, frozen });
  }
  const end = { step: steps, totalSteps: steps, stepsPerEpoch };
  const state = run.kind === "freezing" ? run.state : undefined;
  const [levelName, remark] = [state?.level?.(end).name, state?.remark?.(live)];
  return {
    moments,
    levelName,
    frozenAt,
    remark,
    record: { name: policy.name, ...policy.settings, ...run.state.record?.() },
  };
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
  const unavailable = (): never => {
    throw new ConfigError(
      `The policy ${policy.name} decides by the memory that a model needs, which a schedule does not know.`,
      "Use a policy that decides by scores, such as safe or aflora.",
    );
  };
  return {
    ...progress,
    layers,
    live,
    effect: unavailable,
    explain: unavailable,
    bytesWith: unavailable,
    importance: () => Promise.resolve(new Map(scores.entries())),
    sensitivity: () => Promise.resolve(new Map(byTensor)),
    elementSensitivity: () => Promise.resolve(new Map(byTensor.map(([name, score]) => [name, Float32Array.of(score)]))),
  };
}
