import { parseBytes } from "../../base/bytes";
import type { ByteCount } from "../../base/bytes";
import { MemoryBudgetError } from "../../base/errors";
import type { WeightFormat } from "../../base/packed";
import type { ActivationFormat } from "../../op/pack";
import { plan } from "./predict";
import type { Prediction, PredictOptions } from "./predict";
import { halves } from "../plans/step-choice";

/** How a run is made to fit. */
export interface BudgetChoice {
  readonly weights: WeightFormat;
  readonly activations: ActivationFormat;
  /** Bytes that recomputation aims at. */
  readonly recompute: number;
  /** Rows that run at once while everything is live: a trainer's `microBatch: "fit"` lets them grow as it freezes. */
  readonly microBatch: number;
  readonly prediction: Prediction;
}

/** From what changes nothing to what changes most. */
const FORMATS: readonly { readonly weights: WeightFormat; readonly activations: ActivationFormat }[] = [
  { weights: "f32", activations: "f32" },
  { weights: "f16", activations: "f32" },
  { weights: "f16", activations: "f16" },
  { weights: "int8", activations: "f16" },
  { weights: "nf4", activations: "f16" },
];

/** Share of the budget that is left free for what a plan of one shape does not know: plans of other lengths. */
const MARGIN = 0.01;

/**
 * The first way to make a step fit into so many bytes, tried in this order: formats as above; within a format the whole
 * batch at once, then half of it, and so on to single rows; within a number of rows as little recomputation as fits.
 * So results change only by rounding as long as any way of that kind fits.
 * @throws MemoryBudgetError with the smallest budget that would do, ConfigError for a budget that is not positive.
 */
export function fitBudget(
  options: Omit<PredictOptions, "recompute" | "weights" | "activations">,
  budget: ByteCount,
): BudgetChoice {
  const bytes = parseBytes(budget, "The memory budget");
  const most = Math.floor(bytes * (1 - MARGIN));
  let least = Infinity;
  for (const formats of FORMATS) {
    for (const microBatch of halves(options.batch)) {
      try {
        const prediction = plan({ ...options, ...formats, batch: microBatch, recompute: most });
        return { ...formats, recompute: most, microBatch, prediction };
      } catch (error) {
        if (!(error instanceof MemoryBudgetError)) throw error;
        least = Math.min(least, error.neededBytes);
      }
    }
  }
  const needed = Math.ceil(least / (1 - MARGIN));
  throw new MemoryBudgetError(
    `Whatever is stored in fewer bits, split or run again, this run needs ${needed} bytes; the budget is ${bytes}.`,
    `Give at least ${needed} bytes, or use shorter texts or a smaller model.`,
    needed,
    bytes,
  );
}

/** A choice in words. */
export function describeChoice({ weights, activations, microBatch, prediction }: BudgetChoice): string {
  const again = prediction.recomputed.length;
  const layers = prediction.recomputed.filter((section) => section.startsWith("layer")).length;
  const what =
    layers > 0 ? `${layers} layers run again` : again > 0 ? `${again} feed-forwards run again` : "nothing run again";
  return `weights ${weights}, activations ${activations}, ${what}, ${microBatch} rows at once: ${prediction.peakBytes} bytes planned`;
}
