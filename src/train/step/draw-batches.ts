import { ConfigError } from "../../base/errors";
import type { Batch } from "../../data/batch";
import type { Executor } from "../../run/executor";
import type { PlanBook } from "../plans/plan-book";
import type { BatchQueue } from "./batch-queue";
import { heldPlans } from "./optimizer-plans";
import type { OptimizerPlans } from "./optimizer-plans";

export interface DrawParts {
  readonly queue: BatchQueue;
  readonly book: PlanBook;
  readonly updates: OptimizerPlans;
  readonly executor: Executor;
}

/**
 * Takes the batches of the next step, and makes the executor hold plans for their shapes.
 * @param droppedLayers the layers that the step leaves out.
 * @throws whatever the data throw; ConfigError for layers that the policy has not declared; MemoryBudgetError for a shape that
 * was not known before and does not fit into the budget, and OutOfMemoryError, both with run and data as they were, so that
 * the step can be tried again.
 */
export async function drawBatches(
  { queue, book, updates, executor }: DrawParts,
  droppedLayers: readonly number[],
): Promise<readonly Batch[]> {
  if (!book.hasVariant(droppedLayers)) {
    throw new ConfigError(
      `The policy leaves out the layers ${droppedLayers.join(", ")}, which are not among its variants.`,
      "List every set of layers that `dropped` returns in `variants`.",
    );
  }
  const batches = queue.take();
  const restoreBook = book.mark();
  try {
    for (const batch of batches) if (!book.hasShape(batch)) book.addShape(batch);
    const plans = heldPlans({ book, updates });
    // The executor may hold other plans where it refused an earlier change.
    if (!plans.every((plan) => executor.holds(plan))) await executor.hold(plans);
    return batches;
  } catch (error) {
    restoreBook();
    queue.putBack(batches);
    throw error;
  }
}
