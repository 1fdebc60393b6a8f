import type { Shape } from "../../base/shape";
import type { Statistics } from "../../ops/shared/statistics";
import { maskName, stateName } from "../../optimizer/names";
import type { Optimizer } from "../../optimizer/optimizer";
import { stateShapes } from "../../optimizer/record-update";
import { gradientName } from "../../run/store";

export { firstOfSpan, maskName } from "../../optimizer/names";
export { gradientName, originalName } from "../../run/store";

/*
 * The keys of every tensor in a run's store. Checkpoints are written under these keys, so their text must not change.
 * Those of gradients and originals are defined in src/run, which binds tensors by them, and those of an update in src/optimizer.
 */

/** Keys of a parameter's smoothed sensitivity and of its uncertainty. */
export const statisticsNames = (parameter: string): readonly [sensitivity: string, uncertainty: string] => [
  `sensitivity of ${parameter}`,
  `uncertainty of ${parameter}`,
];

/** Key of the average of a parameter's sensitivity over a window of steps. */
export const windowAverageName = (parameter: string): string => `window's sensitivity of ${parameter}`;

/** Key of the last snapshot's copy of a tensor, next to which the analysis holds another snapshot. */
export const finalName = (parameter: string): string => `final ${parameter}`;

/** A tensor that a trainable tensor has in addition. */
export interface Companion {
  readonly key: string;
  readonly shape: Shape;
  /** What it is, where the companions of this kind lie side by side if their tensors do. */
  readonly kind?: string;
}

/** The gradient of a tensor. */
export const gradientOf = (parameter: string, shape: Shape): Companion => ({
  key: gradientName(parameter),
  shape,
  kind: "gradient",
});

/** The tensors that a live parameter has in addition, in this order: gradient, optimizer's state, statistics, mask. */
export function companionsOf(
  parameter: string,
  shape: Shape,
  {
    optimizer,
    statistics,
    isMasked,
  }: { readonly optimizer: Optimizer; readonly statistics: readonly Statistics[]; readonly isMasked: boolean },
): readonly Companion[] {
  const state = Object.entries(stateShapes(optimizer, shape, parameter));
  const names: string[] = [];
  const collected = statistics.find(({ applies }) => applies(parameter));
  if (collected) names.push(...statisticsNames(parameter));
  if (collected?.window) names.push(windowAverageName(parameter));
  if (isMasked) names.push(maskName(parameter));
  return [
    gradientOf(parameter, shape),
    ...state.map(([slot, slotShape]) => ({ key: stateName(slot, parameter), shape: slotShape, kind: slot })),
    ...names.map((key) => ({ key, shape })),
  ];
}
