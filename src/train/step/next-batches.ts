import type { Batch } from "../../data/batch";
import type { RunResources } from "../loop/resources";
import type { BatchQueue } from "./batch-queue";

/**
 * The batches of the next step, with plans for their shapes and for what the step leaves out.
 * @throws what the data throw; OutOfMemoryError with run and data as they were, so that the step may be tried again.
 */
export async function nextBatches(
  { book, updates, executor }: RunResources,
  upcoming: BatchQueue,
  dropped: readonly number[],
): Promise<readonly Batch[]> {
  const batches = upcoming.take();
  const giveBack = book.mark();
  const isNewVariant = book.addVariant(dropped);
  if (isNewVariant) updates.addVariant(dropped);
  for (const batch of batches) if (!book.hasShape(batch)) book.addShape(batch);
  try {
    const plans = [...book.plans, ...updates.plans];
    // Others may be held where an earlier change of plans was refused.
    if (!plans.every((plan) => executor.holds(plan))) await executor.hold(plans);
    return batches;
  } catch (error) {
    giveBack();
    if (isNewVariant) updates.dropVariant(dropped);
    upcoming.putBack(batches);
    throw error;
  }
}
