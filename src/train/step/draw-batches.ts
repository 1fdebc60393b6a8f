import { ConfigError } from "../../base/errors";
import type { Batch } from "../../data/batch";
import type { BatchQueue } from "./batch-queue";
import { heldPlans, holdPlans } from "./optimizer-plans";
import type { HoldParts } from "./optimizer-plans";

export interface DrawParts extends HoldParts {
  readonly queue: BatchQueue;
}

/**
 * Takes the batches of the next step, and makes the executor hold plans for their shapes.
 * @param droppedLayers the layers that the step leaves out.
 * @throws whatever the data throw; ConfigError for layers that the policy has not declared; MemoryBudgetError for a shape that
 * was not known before and does not fit into the budget, and OutOfMemoryError, both with run and data as they were, so that
 * the step can be tried again.
 */
export async function drawBatches(parts: DrawParts, droppedLayers: readonly number[]): Promise<readonly Batch[]> {
  const { queue, book, executor } = parts;
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
    // The executor may hold other plans where it refused an earlier change.
    if (!heldPlans(parts).every((plan) => executor.holds(plan))) await holdPlans(parts);
    return batches;
  } catch (error) {
    restoreBook();
    queue.putBack(batches);
    throw error;
  }
}
