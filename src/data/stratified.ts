import { DataError } from "../base/errors";
import { Random } from "../base/random";

/**
 * Indices of a random sample that has each label in the same share as all examples, as closely as whole numbers allow
 * (the largest remainders are rounded up). They are in ascending order and depend on nothing but the arguments.
 * @param labels the label of each example.
 * @throws DataError for a sample that is larger than the data.
 */
export function stratifiedSample(labels: readonly unknown[], count: number, seed: number): number[] {
  if (count > labels.length) {
    throw new DataError(`${count} examples were asked for, and the data have ${labels.length}`, "ask for fewer");
  }
  const groups = new Map<unknown, number[]>();
  for (const [index, label] of labels.entries()) {
    const members = groups.get(label);
    if (members) members.push(index);
    else groups.set(label, [index]);
  }
  const quotas = [...groups.values()].map((members) => ({ members, quota: (count * members.length) / labels.length }));
  const missing = count - quotas.reduce((sum, { quota }) => sum + Math.floor(quota), 0);
  const roundedUp = new Set(quotas.toSorted((a, b) => (b.quota % 1) - (a.quota % 1)).slice(0, missing));
  const chosen = quotas.flatMap((group, i) => {
    const size = Math.floor(group.quota) + (roundedUp.has(group) ? 1 : 0);
    return [...new Random(seed, i).shuffle(Uint32Array.from(group.members)).subarray(0, size)];
  });
  return chosen.sort((a, b) => a - b);
}
