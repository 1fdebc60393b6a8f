import { DataError } from "../../base/errors";
import { stratifiedSample } from "../../data/stratified";

/** A run's own seed does not change its data: all methods and seeds have the same examples. */
export const DATA_SEED = 0;

/**
 * A sample of the training examples of a task, stratified where they have classes. It depends on nothing but the arguments.
 * @param labels the class of each example.
 * @throws DataError for more examples than there are.
 */
export function drawExamples<T>(
  task: string,
  { examples, labels }: { readonly examples: readonly T[]; readonly labels: readonly unknown[] },
  { count, seed = DATA_SEED, remedy }: { readonly count: number; readonly seed?: number; readonly remedy: string },
): readonly T[] {
  if (count > examples.length) {
    throw new DataError(`${task} takes ${count} training examples, and the data have ${examples.length}.`, remedy);
  }
  return stratifiedSample(labels, count, seed).map((index) => examples[index]!);
}
