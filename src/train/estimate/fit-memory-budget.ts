import { parseBytes } from "../../base/bytes";
import type { ByteCount } from "../../base/bytes";
import { ConfigError, MemoryBudgetError } from "../../base/errors";
import type { WeightFormat } from "../../base/packed";
import type { MemoryOptions } from "../options";
import { halves } from "../plans/step-choice";
import { plan } from "./predict";
import type { Prediction, PredictOptions } from "./predict";

/** A way to run a step within a memory budget. */
export interface BudgetChoice {
  /** The format of frozen weights, for `loadModel`. */
  readonly weights: WeightFormat;
  /**
   * Memory options of a trainer. `recompute` is a number of bytes, and `microBatch` the rows that run at the same time while
   * everything is live; with `microBatch: "fit"` a trainer raises it as it freezes.
   */
  readonly memory: Required<Omit<MemoryOptions, "budget">>;
  readonly prediction: Prediction;
}

/** In the order in which they are tried: from what changes nothing to what changes most. */
const FORMATS: readonly (Pick<BudgetChoice, "weights"> & Pick<BudgetChoice["memory"], "activations">)[] = [
  { weights: "f32", activations: "f32" },
  { weights: "f16", activations: "f32" },
  { weights: "f16", activations: "f16" },
  { weights: "int8", activations: "f16" },
  { weights: "nf4", activations: "f16" },
];

/** Share of the budget that stays free for what the plan of one shape does not contain, such as plans of other lengths. */
const MARGIN = 0.01;

/**
 * The first way to make a step fit into a memory budget. Formats of weights and activations are tried from f32 to fewer
 * bits; for each format the complete batch, half of it, and so on to single rows; for each number of rows as little
 * recomputation as fits. Results therefore change by rounding only, as long as any way of that kind fits.
 * @throws MemoryBudgetError with the smallest budget that is accepted, ConfigError for a budget that is not positive.
 */
export function fitMemoryBudget(options: Omit<PredictOptions, "memory" | "weights">, budget: ByteCount): BudgetChoice {
  const bytes = parseBytes(budget, "The memory budget");
  const recompute = Math.floor(bytes * (1 - MARGIN));
  const { rowsTogether } = typeof options.loss === "object" ? options.loss : { rowsTogether: 1 };
  let least = Infinity;
  for (const { weights, activations } of FORMATS) {
    for (const microBatch of halves(options.batch, rowsTogether)) {
      try {
        const prediction = plan({ ...options, weights, batch: microBatch, memory: { activations, recompute } });
        return { weights, memory: { activations, recompute, microBatch }, prediction };
      } catch (error) {
        // A weight that learns cannot be stored in fewer bits. Anything else is wrong with f32, too, and thrown there.
        if (error instanceof ConfigError && weights !== "f32") break;
        if (!(error instanceof MemoryBudgetError)) throw error;
        least = Math.min(least, error.neededBytes);
      }
    }
  }
  const neededBytes = Math.ceil(least / (1 - MARGIN));
  throw new MemoryBudgetError(
    `With weights in the fewest bits, single rows and every layer recomputed, this run needs ${neededBytes} bytes; the budget is ${bytes}.`,
    `Give at least ${neededBytes} bytes, or use shorter texts or a smaller model.`,
    neededBytes,
    bytes,
  );
}

/** A choice in words. */
export function describeChoice({ weights, memory, prediction }: BudgetChoice): string {
  const { activations, microBatch } = memory;
  const sections = prediction.recomputed.length;
  const layers = prediction.recomputed.filter((section) => section.startsWith("layer")).length;
  const recomputed = layers > 0 ? `${layers} layers` : sections > 0 ? `${sections} feed-forwards` : "nothing";
  return `weights ${weights}, activations ${activations}, ${recomputed} recomputed, ${microBatch} rows at a time: ${prediction.peakBytes} bytes planned`;
}
