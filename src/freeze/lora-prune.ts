import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { checkSchema } from "../io/json";
import { checkOptions, WHOLE_FROM_1, WHOLE_FROM_0, numbers, SHARE } from "./check-options";
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
  /**
   * Most times that what is removed is cut out of the tensors; 0 for never, so that it is multiplied by 0 until the end. A
   * compaction plans the run again and makes its kernels' buffers anew. Default 8.
   */
  readonly compactions?: number;
}

/** A share of 1 would leave nothing of a layer, or of a group's importance in a step. */
const BELOW_1 = numbers((value) => value >= 0 && value < 1, "a share from 0 and below 1");
const ALLOWED = {
  ratio: BELOW_1,
  every: WHOLE_FROM_1,
  warmupShare: SHARE,
  finalShare: SHARE,
  smoothing: BELOW_1,
  compactions: WHOLE_FROM_0,
};

/**
 * LoRAPrune (Zhang et al. 2023): attention heads and feed-forward neurons of the base model are removed while LoRA learns,
 * more and more of them on a cubic schedule, in the order of their importance, which is estimated from LoRA's gradients
 * alone. The first tenth of the layers and the last layer are not pruned, and what is removed never returns. Needs `lora()`
 * on the projections whose importance counts, best on "all-linear"; a projection without LoRA adds nothing. Importance is
 * read before gradients are clipped.
 *
 * What is removed is first multiplied by 0, and up to `compactions` times in a run cut out of weights, LoRA, gradients,
 * moments and activations, neurons in multiples of 64. The memory at the end falls; the peak stays that of LoRA's first
 * steps. With grouped queries, a key-value head goes with all its query heads. The loaded model has fewer heads and neurons
 * until the trainer is disposed of, while its original weights wait in host memory (`trainer.compaction.bytes`).
 * `saveMerged` writes the pruned model.
 * @throws ConfigError for options that make no sense.
 */
export function loraPrune(options: LoraPruneOptions = {}): StructurePruningPolicy {
  const settings = {
    ratio: 0.5,
    every: 10,
    warmupShare: 0.1,
    finalShare: 0.1,
    smoothing: 0.9,
    compactions: 8,
    ...options,
  };
  checkOptions("lora_prune", settings, ALLOWED);
  const { ratio, every, warmupShare, finalShare, smoothing, compactions } = settings;
  if (warmupShare + finalShare >= 1) {
    throw new ConfigError(
      `lora_prune: warmupShare ${warmupShare} and finalShare ${finalShare} leave no step between them.`,
      "Give shares whose sum is below 1.",
    );
  }
  /** Whether groups are removed after a step. As in the published code, not once the share has reached the ratio. */
  const isDue = (progress: Progress): boolean => {
    const share = prunedShare(progress, settings);
    return progress.step % every === 0 && share > 0 && share < ratio;
  };
  return {
    kind: "structure_pruning",
    name: "lora_prune",
    settings,
    smoothing,
    applies: ({ layer }, layers) => layer >= Math.floor(layers / 10) && layer < layers - 1,
    start() {
      let history: v.InferOutput<typeof HISTORY> = [];
      return {
        isDue,
        isCompactionDue(progress) {
          if (compactions === 0 || !isDue(progress)) return false;
          // Equal parts of the ratio, so that each compaction frees about as much; the last one comes after the last removal.
          const part = (step: number): number =>
            Math.floor((compactions * prunedShare({ ...progress, step }, settings)) / ratio);
          const isLast = prunedShare({ ...progress, step: progress.step + every }, settings) >= ratio;
          return isLast || part(progress.step) > part(progress.step - every);
        },
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
