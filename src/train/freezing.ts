import type { Adapter } from "../adapter/adapter";
import type { Batch } from "../data/batch";
import type { FreezeContext, FreezeEffect, Progress } from "../freeze/policy";
import type { LoadedModel } from "../io/load-model";
import type { Executor } from "../run/executor";
import { specBytes } from "../tape/emit";
import type { Plan } from "../tape/plan";
import { importance } from "./importance";
import type { PlanBook } from "./plan-book";
import type { TrainState } from "./state";

export interface FreezingParts {
  readonly loaded: LoadedModel;
  readonly adapter: Adapter;
  readonly state: TrainState;
  readonly executor: Executor;
  readonly probe: Batch;
  readonly progress: Progress;
  readonly book: PlanBook;
  /** Plans that the executor holds and must hold again after scoring. */
  readonly plans: readonly Plan[];
}

/** What a policy sees now. Scores and effects are computed only if it asks. */
export function freezeContext(parts: FreezingParts): FreezeContext {
  const scores = new Map<boolean, Promise<ReadonlyMap<number, number>>>();
  return {
    ...parts.progress,
    live: parts.state.liveByLayer(),
    importance({ center = true } = {}) {
      const found = scores.get(center) ?? importance(parts, center);
      scores.set(center, found);
      return found;
    },
    effect: (tensors) => effect(parts, tensors),
  };
}

function effect({ book, state }: FreezingParts, tensors: readonly string[]): FreezeEffect {
  const live = new Set(state.live.keys());
  const before = book.planWith(live);
  const after = book.planWith(new Set([...live].filter((name) => !tensors.includes(name))));
  const saved = (plan: Plan): number => plan.saved.reduce((sum, value) => sum + value.bytes, 0);
  const frozen = tensors.flatMap((name) => state.live.get(name) ?? []);
  return {
    savedBytes: saved(before) - saved(after),
    stateBytes: frozen.reduce((sum, spec) => sum + 3 * specBytes(spec), 0),
    flops: before.flops.backward - after.flops.backward,
  };
}
