import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { Random } from "../base/random";
import { checkSchema } from "../io/json";
import type { WeightPruningContext, WeightPruningPolicy } from "./policy";

export interface SparseAdapterOptions {
  /** Share of the adapter's weights that is kept. Default 0.4. */
  readonly keep?: number;
  /** By size, by |w g| on the first batch (SNIP), or at random. Default "snip". */
  readonly by?: "magnitude" | "snip" | "random";
  /** Seed of "random". Default 0. */
  readonly seed?: number;
}

/**
 * SparseAdapter (He et al. 2022): before the first step, the lowest-scoring weights of all adapters together become 0 for
 * good; their gradients are masked. Tensors that start at 0 throughout are left whole.
 *
 * Saves no memory: masks multiply dense tensors, and cost one more of each.
 * @throws ConfigError for a share that is not above 0 and at most 1.
 */
export function sparseAdapter({ keep = 0.4, by = "snip", seed = 0 }: SparseAdapterOptions = {}): WeightPruningPolicy {
  if (!(keep > 0 && keep <= 1)) {
    throw new ConfigError(`SparseAdapter is to keep a share of ${keep}.`, "Give a share above 0, at most 1.");
  }
  return {
    kind: "weight_pruning",
    name: "sparse_adapter",
    settings: { keep, by, seed },
    start() {
      let keptWeights: number | undefined;
      return {
        async masks(context) {
          const masks = sparseMasks(await scoresOf(context, by, seed), keep);
          keptWeights = [...masks.values()].reduce((sum, mask) => sum + mask.reduce((a, b) => a + b, 0), 0);
          return masks;
        },
        record: () => ({ keptWeights }),
        save: () => keptWeights ?? null,
        restore(saved) {
          keptWeights = checkSchema(v.nullable(v.number()), saved, "SparseAdapter's findings") ?? undefined;
        },
      };
    },
  };
}

async function scoresOf(
  { values, gradients }: WeightPruningContext,
  by: "magnitude" | "snip" | "random",
  seed: number,
): Promise<Map<string, Float32Array>> {
  const random = new Random(seed, 11);
  const slopes = by === "snip" ? await gradients() : undefined;
  // A tensor that starts at 0 (LoRA's B) has nothing to be judged by yet, and pruning all of it would kill the adapter.
  const judged = [...values].filter(([, weights]) => by === "random" || weights.some((weight) => weight !== 0));
  return new Map(
    judged.map(([name, weights]) => {
      const slope = slopes?.get(name);
      const score = (weight: number, i: number): number => {
        if (by === "random") return random.normal();
        return Math.abs(slope ? weight * (slope[i] ?? 0) : weight);
      };
      return [name, weights.map(score)];
    }),
  );
}

/** 1 for the `keep` share of highest scores over all tensors, 0 for the rest (He et al. 2022, eq. 2). */
export function sparseMasks(scores: ReadonlyMap<string, Float32Array>, keep: number): Map<string, Float32Array> {
  const all = Float32Array.from([...scores.values()].flatMap((values) => [...values])).sort();
  const removed = Math.ceil((1 - keep) * all.length);
  const threshold = removed === 0 ? -Infinity : all[removed - 1]!;
  return new Map([...scores].map(([name, values]) => [name, values.map((score) => (score > threshold ? 1 : 0))]));
}
