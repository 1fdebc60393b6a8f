import type { Statistics } from "../../ops/shared/statistics";
import { gradientName } from "../../run/store";

export { gradientName, originalName } from "../../run/store";

/*
 * The keys of every tensor in a run's store. Checkpoints are written under these keys, so their text must not change.
 * `gradientName` and `originalName` are defined in src/run, which binds tensors by them.
 */

/** Keys of the first and the second moment of a parameter. */
export const momentNames = (parameter: string): readonly [first: string, second: string] => [
  `first moment of ${parameter}`,
  `second moment of ${parameter}`,
];

/** Key of a parameter's mask: 1 keeps an element, 0 keeps it at 0. */
export const maskName = (parameter: string): string => `mask of ${parameter}`;

/** Keys of a parameter's smoothed sensitivity and of its uncertainty. */
export const statisticsNames = (parameter: string): readonly [sensitivity: string, uncertainty: string] => [
  `sensitivity of ${parameter}`,
  `uncertainty of ${parameter}`,
];

/** Key of the average of a parameter's sensitivity over a window of steps. */
export const windowAverageName = (parameter: string): string => `window's sensitivity of ${parameter}`;

const SPAN = "from ";

/** Key under which plans bind a tensor together with those that follow it in its arena. */
export const spanName = (first: string): string => `${SPAN}${first}`;

/** The key of the tensor at which a key's memory begins. */
export const firstOfSpan = (key: string): string => (key.startsWith(SPAN) ? key.slice(SPAN.length) : key);

/** Key of the last snapshot's copy of a tensor, next to which the analysis holds another snapshot. */
export const finalName = (parameter: string): string => `final ${parameter}`;

/** Keys of the tensors that a live parameter has in addition, each of its shape, in this order: gradient, moments, statistics, mask. */
export function companionNames(
  parameter: string,
  { statistics, isMasked }: { readonly statistics: readonly Statistics[]; readonly isMasked: boolean },
): readonly string[] {
  const names = [gradientName(parameter), ...momentNames(parameter)];
  const collected = statistics.find(({ applies }) => applies(parameter));
  if (collected) names.push(...statisticsNames(parameter));
  if (collected?.window) names.push(windowAverageName(parameter));
  if (isMasked) names.push(maskName(parameter));
  return names;
}
