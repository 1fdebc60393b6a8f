/** How the changes of several adapters become one, as PEFT's `merge_utils` has it. */
export type TaskMethod = "linear" | "ties" | "dare_linear" | "dare_ties" | "magnitude_prune";

export interface TaskOptions {
  readonly method: TaskMethod;
  /** Share of elements to keep, from 0 to 1. Used by all methods but linear. */
  readonly density: number;
  /** What decides the sign of an element in TIES: the sum of the values, or of their signs. */
  readonly majoritySign: "total" | "frequency";
  /** Draws a uniform number from 0 to 1: DARE keeps an element where it is below the density. */
  readonly draw: () => number;
}

/**
 * The weighted sum of tensors of one shape. TIES (Yadav et al. 2023) keeps the largest elements of each, elects a sign for every
 * element and takes the mean of those that have it; DARE (Yu et al. 2024) keeps random elements, over the density; magnitude_prune keeps
 * the largest ones alone. @param weights one for each tensor.
 */
export function mergedTasks(
  tasks: readonly Float32Array[],
  weights: readonly number[],
  { method, density, majoritySign, draw }: TaskOptions,
): Float32Array {
  const isRandom = method.startsWith("dare");
  const pruned = tasks.map((task) => {
    if (method === "linear" || density >= 1) return task;
    return isRandom ? task.map((value) => (draw() < density ? value / density : 0)) : largest(task, density);
  });
  const isElected = method.endsWith("ties");
  const merged = new Float32Array(tasks[0]?.length ?? 0);
  for (let i = 0; i < merged.length; i++) {
    const values = pruned.map((task) => task[i]!);
    const votes = majoritySign === "total" ? values : values.map(Math.sign);
    const sign = votes.reduce((sum, value) => sum + value, 0) >= 0 ? 1 : -1;
    const isCounted = (value: number): boolean => !isElected || Math.sign(value) === sign;
    const sum = values.reduce((total, value, k) => total + (isCounted(value) ? value * weights[k]! : 0), 0);
    merged[i] = isElected ? sum / Math.max(1, values.filter(isCounted).length) : sum;
  }
  return merged;
}

/** The elements of largest magnitude, this share of them; of equal ones the first. Zeros take the places of the others. */
function largest(values: Float32Array, share: number): Float32Array {
  const count = Math.floor(share * values.length);
  const magnitudes = values.map(Math.abs).sort();
  const least = count > 0 ? magnitudes[magnitudes.length - count]! : Infinity;
  let equal = count - magnitudes.reduce((sum, magnitude) => sum + (magnitude > least ? 1 : 0), 0);
  return values.map((value) => {
    const magnitude = Math.abs(value);
    return magnitude > least || (magnitude === least && equal-- > 0) ? value : 0;
  });
}
