import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { checkSchema } from "../io/json";
import type { Progress, StructurePruningPolicy } from "./policy";

const HISTORY = v.array(v.strictObject({ step: v.number(), share: v.number(), out: v.number() }));

export interface LoraPruneOptions {
  /** Share of heads and neurons that is removed by the end, in every layer that may be pruned. Default 0.5. */
  readonly ratio?: number;
  /** Steps between decisions. Default 10. */
  readonly every?: number;
  /** Share of all steps before the first group is removed. Default 0.1. */
  readonly warmupShare?: number;
  /** Share of all steps after the last group is removed. Default 0.1. */
  readonly finalShare?: number;
  /** Share of the past in each group's running importance. Default 0.9. */
  readonly smoothing?: number;
}

/**
 * LoRAPrune (Zhang et al. 2023): attention heads and feed-forward neurons of the base model are removed while LoRA learns,
 * more and more of them on a cubic schedule, in the order of their importance, which is estimated from LoRA's gradients
 * alone. The first tenth of the layers and the last layer are not pruned, and what is removed never returns. Needs `lora()`
 * on the projections whose importance counts, best on "all-linear"; a projection without LoRA adds nothing.
 *
 * Saves no memory while training: pruned groups are masked, not cut out, and every masked projection costs one more pass
 * over its outputs. `saveMerged` writes the pruned model; an adapter alone could not say what is removed.
 * @throws ConfigError for options that make no sense.
 */
export function loraPrune(options: LoraPruneOptions = {}): StructurePruningPolicy {
  const settings = { ratio: 0.5, every: 10, warmupShare: 0.1, finalShare: 0.1, smoothing: 0.9, ...options };
  const { ratio, every, warmupShare, finalShare, smoothing } = settings;
  const isValid =
    [ratio, smoothing].every((value) => value >= 0 && value < 1) &&
    [warmupShare, finalShare].every((value) => value >= 0) &&
    warmupShare + finalShare < 1 &&
    Number.isInteger(every) &&
    every >= 1;
  if (!isValid) {
    throw new ConfigError(
      `LoRAPrune: ratio ${ratio}, every ${every}, warmupShare ${warmupShare}, finalShare ${finalShare}, smoothing ${smoothing} make no schedule.`,
      "Give shares from 0 and below 1, and a whole number of steps.",
    );
  }
  return {
    kind: "structure_pruning",
    name: "lora_prune",
    settings,
    smoothing,
    applies: ({ layer }, layers) => layer >= Math.floor(layers / 10) && layer < layers - 1,
    start() {
      let history: v.InferOutput<typeof HISTORY> = [];
      return {
        isDue: (progress) => progress.step % every === 0 && prunedShare(progress, settings) > 0,
        choose(progress, structures) {
          const share = prunedShare(progress, settings);
          const chosen = structures.map(({ scores, out }) =>
            lowestGroups(scores, out, Math.floor(share * scores.length)),
          );
          history.push({ step: progress.step, share, out: chosen.reduce((sum, { size }) => sum + size, 0) });
          return chosen;
        },
        record: () => ({ history }),
        save: () => [...history],
        restore(saved) {
          history = checkSchema(HISTORY, saved, "LoRAPrune's history in a checkpoint");
        },
      };
    },
  };
}

/** Share of the groups that is out at a step: rises from 0 at the end of warm-up to `ratio`, as 1 - (1 - u)^3. */
function prunedShare({ step, totalSteps }: Progress, settings: Required<LoraPruneOptions>): number {
  const { ratio, warmupShare, finalShare } = settings;
  const u = (step / totalSteps - warmupShare) / (1 - warmupShare - finalShare);
  return u <= 0 ? 0 : ratio * (1 - (1 - Math.min(1, u)) ** 3);
}

/** Groups that are out already, and the least important others, `count` in all. */
function lowestGroups(scores: Float64Array, out: ReadonlySet<number>, count: number): ReadonlySet<number> {
  const others = Array.from(scores.keys()).filter((group) => !out.has(group));
  others.sort((a, b) => scores[a]! - scores[b]!);
  return new Set([...out, ...others.slice(0, Math.max(0, count - out.size))]);
}
