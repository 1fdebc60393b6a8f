import * as v from "valibot";
import { Random } from "../base/random";
import { checkSchema } from "../io/json";
import { checkOptions, WHOLE_FROM_0, numbers, oneOf } from "./check-options";
import type { WeightPruningContext, WeightPruningPolicy } from "./policy";

export interface SparseAdapterOptions {
  /** Share of the adapters' weights that is kept. Default 0.4. */
  readonly keep?: number;
  /** Score of a weight w of gradient dw: |w|, |w dw| on the first batch (SNIP), or a random number. Default "snip". */
  readonly by?: "magnitude" | "snip" | "random";
  /** Seed of the random numbers. Default 0. */
  readonly seed?: number;
}

const ALLOWED = {
  keep: numbers((value) => value > 0 && value <= 1, "a share above 0, at most 1"),
  by: oneOf(["magnitude", "snip", "random"]),
  seed: WHOLE_FROM_0,
};

/**
 * SparseAdapter (He et al. 2022, eq. 2): before the first step, the weights of the lowest scores over all adapters together
 * become 0. They stay 0, since their gradients are masked. Tensors that are 0 throughout are not pruned.
 *
 * Saves no memory: masks multiply dense tensors, and cost one more tensor of each size.
 * @throws ConfigError for options that make no sense.
 */
export function sparseAdapter({ keep = 0.4, by = "snip", seed = 0 }: SparseAdapterOptions = {}): WeightPruningPolicy {
  checkOptions("sparse_adapter", { keep, by, seed }, ALLOWED);
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

/** Scores of the weights of every tensor that may be pruned, by its name. */
async function scoresOf(
  { values, gradients }: WeightPruningContext,
  by: "magnitude" | "snip" | "random",
  seed: number,
): Promise<Map<string, Float32Array>> {
  const random = new Random(seed, 11);
  const gradientsByName = by === "snip" ? await gradients() : undefined;
  // All scores of a tensor that begins at 0 (LoRA's B) are 0, and without any of its weights the adapter could not learn.
  const scored = [...values].filter(([, weights]) => by === "random" || weights.some((weight) => weight !== 0));
  return new Map(
    scored.map(([name, weights]) => {
      const gradient = gradientsByName?.get(name);
      const score = (weight: number, i: number): number => {
        if (by === "random") return random.normal();
        return Math.abs(gradient ? weight * (gradient[i] ?? 0) : weight);
      };
      return [name, weights.map(score)];
    }),
  );
}

/** Masks of 1 for the share `keep` of highest scores over all tensors together, 0 for the others (He et al. 2022, eq. 2). */
export function sparseMasks(scores: ReadonlyMap<string, Float32Array>, keep: number): Map<string, Float32Array> {
  const all = Float32Array.from([...scores.values()].flatMap((values) => [...values])).sort();
  const removed = Math.ceil((1 - keep) * all.length);
  const threshold = removed === 0 ? -Infinity : all[removed - 1]!;
  return new Map([...scores].map(([name, values]) => [name, values.map((score) => (score > threshold ? 1 : 0))]));
}
