import type { Adapter } from "../../adapter/adapter";
import { ConfigError } from "../../base/errors";
import type { Shape } from "../../base/shape";
import type { Batch } from "../../data/batch";
import type { FreezeContext, FreezeEffect, ImportanceReference, Progress } from "../../freeze/policy";
import { sumBytes } from "../../gpu/ledger";
import type { LoadedModel } from "../../io/load-model";
import type { TensorSpec } from "../../op/declaration";
import type { Statistics } from "../../ops/shared/statistics";
import type { Executor } from "../../run/executor";
import { specBytes } from "../../tape/emit";
import { totalFlops } from "../../tape/plan";
import type { Plan } from "../../tape/plan";
import { footprint } from "../plans/footprint";
import type { LayerSums } from "../plans/comparison-trace";
import type { PlanBook } from "../plans/plan-book";
import { scorePlan } from "../plans/statistics-plan";
import { gradientOf, statisticsNames } from "../tensors/names";
import type { Companion } from "../tensors/names";
import type { TrainableSpec } from "../tensors/specs";
import type { TrainableTensors } from "../tensors/trainable-tensors";
import { importance } from "./layer-importance";
import type { Merging } from "./merging";

/** Scores that a policy requested. */
export interface PolicyScores {
  /** Importance of each layer (1 - CKA), or sensitivity of each tensor. */
  readonly kind: "importance" | "sensitivity";
  /** By layer or by tensor. */
  readonly values: Readonly<Record<string, number>>;
}

/** What the context of a freezing policy is computed from. */
export interface FreezeContextParts {
  readonly loaded: LoadedModel;
  readonly adapter: Adapter;
  readonly state: TrainableTensors;
  readonly executor: Executor;
  /** Batches on which layers are scored. */
  readonly probe: readonly Batch[];
  readonly progress: Progress;
  readonly book: PlanBook;
  readonly merging: Merging | undefined;
  readonly statistics: Statistics | undefined;
  /** What importance compares layers with, by the policy's declaration; undefined for one that reads no importance. */
  readonly reference: ImportanceReference | undefined;
  /** Every plan that the run would hold in addition to those of its steps, with only these tensors live. */
  readonly sidePlansWith: (live: ReadonlyMap<string, TrainableSpec>) => readonly Plan[];
  /** The probe's CKA sums, where several devices have computed them: of each batch, by layer. */
  readonly probeSums?: { readonly center: boolean; readonly sums: readonly (readonly LayerSums[])[] } | undefined;
  /** Called with scores that the policy requests. */
  readonly onScores?: (scores: PolicyScores) => void;
}

/** What a freezing policy sees now. Scores and effects are computed when the policy requests them. */
export function freezeContext(parts: FreezeContextParts): FreezeContext {
  const importances = new Map<boolean, Promise<ReadonlyMap<number, number>>>();
  return {
    ...parts.progress,
    layers: parts.loaded.model.layers,
    live: parts.state.liveByLayer(),
    sensitivity: () => recorded(parts, "sensitivity", sensitivities(parts)),
    async elementSensitivity() {
      const byElement = await elementSensitivities(parts);
      await recorded(parts, "sensitivity", new Map([...byElement].map(([name, values]) => [name, mean(values)])));
      return byElement;
    },
    bytesWith: (tensors) => bytesWith(parts, tensors),
    async importance({ center = true } = {}) {
      if (!parts.reference) {
        throw new ConfigError(
          "This policy reads importance without declaring it.",
          "Give the policy `usesImportance: true`.",
        );
      }
      const compute = () => importance(parts, center);
      const { merging, probeSums } = parts;
      const scores = importances.get(center) ?? (merging && !probeSums ? merging.unmerged(compute) : compute());
      importances.set(center, scores);
      return recorded(parts, "importance", scores);
    },
    effect: (tensors) => effect(parts, tensors),
    explain: (tensors = []) =>
      parts.book.explain(new Set([...parts.state.live.keys()].filter((name) => !tensors.includes(name)))),
  };
}

/** Scores, once they have been passed to `onScores`. */
async function recorded<K extends string | number>(
  { onScores }: FreezeContextParts,
  kind: PolicyScores["kind"],
  pending: ReadonlyMap<K, number> | Promise<ReadonlyMap<K, number>>,
): Promise<ReadonlyMap<K, number>> {
  const scores = await pending;
  if (scores.size > 0) onScores?.({ kind, values: Object.fromEntries(scores) });
  return scores;
}

const mean = (values: Float32Array): number => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Live tensors whose statistics are collected. @throws ConfigError where none are collected at all. */
function tensorsWithStatistics({ state, statistics }: FreezeContextParts): ReadonlyMap<string, TensorSpec> {
  if (!statistics) {
    throw new ConfigError("This policy reads sensitivities, but has no statistics.", "Give the policy `statistics`.");
  }
  return new Map([...state.live].filter(([name]) => statistics.applies(name)));
}

async function elementSensitivities(parts: FreezeContextParts): Promise<ReadonlyMap<string, Float32Array>> {
  const scores = new Map<string, Float32Array>();
  for (const name of tensorsWithStatistics(parts).keys()) {
    const [meanName, uncertaintyName] = statisticsNames(name);
    const sensitivity = await parts.state.tensor(meanName).read();
    const uncertainty = await parts.state.tensor(uncertaintyName).read();
    scores.set(
      name,
      sensitivity.map((value, i) => value * uncertainty[i]!),
    );
  }
  return scores;
}

async function sensitivities(parts: FreezeContextParts): Promise<ReadonlyMap<string, number>> {
  const { state, executor, loaded } = parts;
  const specs = tensorsWithStatistics(parts);
  if (specs.size === 0) return new Map<string, number>();
  const scoring = scorePlan(specs, loaded.engine.device.limits);
  const outputs = await executor.beside([scoring], () => executor.run(scoring, state, {}));
  return new Map([...outputs].map(([name, [score]]) => [name, score!]));
}

function bytesWith(
  { loaded, adapter, state, book, sidePlansWith }: FreezeContextParts,
  tensors: readonly string[],
): number {
  const live = new Map([...state.live].filter(([name]) => !tensors.includes(name)));
  const after = book.after(new Set(live.keys()));
  const companions = (name: string, shape: Shape): readonly Companion[] => {
    if (live.has(name)) return state.companions(name);
    return after.live.has(name) ? [gradientOf(name, shape)] : [];
  };
  return sumBytes(footprint(loaded.model, adapter, [...after.plans, ...sidePlansWith(live)], companions));
}

function effect({ book, state }: FreezeContextParts, tensors: readonly string[]): FreezeEffect {
  const live = new Set(state.live.keys());
  const before = book.planWith(live);
  const after = book.planWith(new Set([...live].filter((name) => !tensors.includes(name))));
  const savedBytes = (plan: Plan): number => plan.saved.reduce((sum, value) => sum + value.bytes, 0);
  const stateBytes = tensors
    .filter((name) => state.live.has(name))
    .flatMap((name) => state.companions(name).map(({ shape }) => specBytes({ shape, dtype: "f32" })));
  return {
    savedBytes: savedBytes(before) - savedBytes(after),
    stateBytes: stateBytes.reduce((sum, bytes) => sum + bytes, 0),
    flops: totalFlops(before) - totalFlops(after),
  };
}
