import type { Adapter } from "../../adapter/adapter";
import type { Batch } from "../../data/batch";
import type { FreezeContext, FreezeEffect, Progress } from "../../freeze/policy";
import type { LoadedModel } from "../../io/load-model";
import type { Executor } from "../../run/executor";
import { specBytes } from "../../tape/emit";
import { totalFlops } from "../../tape/plan";
import type { Plan } from "../../tape/plan";
import { ConfigError } from "../../base/errors";
import type { TensorSpec } from "../../op/declaration";
import type { Statistics } from "../../ops/shared/statistics";
import { sumBytes } from "../../gpu/ledger";
import { footprint } from "../plans/footprint";
import type { Merging } from "./merging";
import { scorePlan } from "../plans/statistics-plan";
import { statisticsNames } from "../tensors/names";
import { importance } from "./layer-importance";
import type { PlanBook } from "../plans/plan-book";
import type { TrainableSpec } from "../tensors/specs";
import type { TrainableTensors } from "../tensors/trainable-tensors";

/** Scores that a policy requested. */
export interface PolicyScores {
  /** Importance of each layer (1 - CKA), or sensitivity of each tensor. */
  readonly kind: "importance" | "sensitivity";
  /** By layer or by tensor. */
  readonly values: Readonly<Record<string, number>>;
}

export interface FreezingParts {
  readonly loaded: LoadedModel;
  readonly adapter: Adapter;
  readonly state: TrainableTensors;
  readonly executor: Executor;
  readonly probe: Batch;
  readonly progress: Progress;
  readonly book: PlanBook;
  readonly merging: Merging | undefined;
  readonly statistics: Statistics | undefined;
  /** Every plan that the run would hold in addition to those of its steps, with only these tensors live. */
  readonly sidePlansWith: (live: ReadonlyMap<string, TrainableSpec>) => readonly Plan[];
  /** Told of scores that the policy asks for. */
  readonly onScores?: (scores: PolicyScores) => void;
}

/** @throws ConfigError for a tensor that a run does not train, or where nothing would be left to train. */
export function checkFreeze({ specs, live }: Pick<TrainableTensors, "specs" | "live">, names: readonly string[]): void {
  const unknown = names.find((name) => !specs.has(name));
  if (unknown !== undefined) {
    throw new ConfigError(`${unknown} is not trained by this run.`, "Name tensors of trainer.state.specs.");
  }
  if ([...live.keys()].some((name) => !names.includes(name))) return;
  throw new ConfigError("Freezing these tensors would leave nothing to train.", "Keep the head, or stop the run.");
}

/** What a policy sees now. Scores and effects are computed only if it asks. */
export function freezeContext(parts: FreezingParts): FreezeContext {
  const scores = new Map<boolean, Promise<ReadonlyMap<number, number>>>();
  return {
    ...parts.progress,
    layers: parts.loaded.model.layers,
    live: parts.state.liveByLayer(),
    sensitivity: () => told(parts, "sensitivity", sensitivityScores(parts)),
    async elementSensitivity() {
      const scores = await elementScores(parts);
      await told(parts, "sensitivity", new Map([...scores].map(([name, values]) => [name, mean(values)])));
      return scores;
    },
    bytesWith: (tensors) => bytesWith(parts, tensors),
    importance({ center = true } = {}) {
      const score = () => importance(parts, center);
      const found = scores.get(center) ?? (parts.merging ? parts.merging.apart(score) : score());
      scores.set(center, found);
      return told(parts, "importance", found);
    },
    effect: (tensors) => effect(parts, tensors),
    explain: (tensors = []) =>
      parts.book.explain(new Set([...parts.state.live.keys()].filter((name) => !tensors.includes(name)))),
  };
}

/** Scores, after whoever records them has seen them. */
async function told<K extends string | number>(
  { onScores }: FreezingParts,
  kind: PolicyScores["kind"],
  found: ReadonlyMap<K, number> | Promise<ReadonlyMap<K, number>>,
): Promise<ReadonlyMap<K, number>> {
  const scores = await found;
  if (scores.size > 0) onScores?.({ kind, values: Object.fromEntries(scores) });
  return scores;
}

const mean = (values: Float32Array): number => values.reduce((sum, value) => sum + value, 0) / values.length;

/** The followed tensors that still learn. */
function followedTensors({ state, statistics }: FreezingParts): ReadonlyMap<string, TensorSpec> {
  if (!statistics) {
    throw new ConfigError("This policy asks for sensitivity, but follows no gradients.", "Give it `statistics`.");
  }
  return new Map([...state.live].filter(([name]) => statistics.applies(name)));
}

async function elementScores(parts: FreezingParts): Promise<ReadonlyMap<string, Float32Array>> {
  const scores = new Map<string, Float32Array>();
  for (const name of followedTensors(parts).keys()) {
    const [mean, uncertainty] = statisticsNames(name).map((own) => parts.state.tensor(own));
    const [a, b] = [await mean!.read(), await uncertainty!.read()];
    scores.set(
      name,
      a.map((value, i) => value * b[i]!),
    );
  }
  return scores;
}

async function sensitivityScores(parts: FreezingParts): Promise<ReadonlyMap<string, number>> {
  const { state, executor, loaded } = parts;
  const followed = followedTensors(parts);
  if (followed.size === 0) return new Map<string, number>();
  const scoring = scorePlan(followed, loaded.engine.device.limits);
  const outputs = await executor.beside([scoring], () => executor.run(scoring, state, {}));
  return new Map([...outputs].map(([name, [score]]) => [name, score!]));
}

function bytesWith({ loaded, adapter, state, book, sidePlansWith }: FreezingParts, tensors: readonly string[]): number {
  const live = new Map([...state.live].filter(([name]) => !tensors.includes(name)));
  const after = book.after(new Set(live.keys()));
  const companions = (name: string): number => {
    if (live.has(name)) return state.companions(name).length;
    return after.live.has(name) ? 1 : 0;
  };
  return sumBytes(footprint(loaded.model, adapter, [...after.plans, ...sidePlansWith(live)], companions));
}

function effect({ book, state }: FreezingParts, tensors: readonly string[]): FreezeEffect {
  const live = new Set(state.live.keys());
  const before = book.planWith(live);
  const after = book.planWith(new Set([...live].filter((name) => !tensors.includes(name))));
  const saved = (plan: Plan): number => plan.saved.reduce((sum, value) => sum + value.bytes, 0);
  const frozen = tensors.flatMap((name) => {
    const spec = state.live.get(name);
    return spec ? state.companions(name).length * specBytes(spec) : [];
  });
  return {
    savedBytes: saved(before) - saved(after),
    stateBytes: frozen.reduce((sum, bytes) => sum + bytes, 0),
    flops: totalFlops(before) - totalFlops(after),
  };
}
