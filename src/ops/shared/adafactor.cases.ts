import type { ReferenceTensor } from "../../op/declaration";
import { at } from "./reference";
import { floorOf } from "./adafactor";
import type { AdafactorAttributes } from "./adafactor";

/**
 * Changes p by the reference's last formulas.
 * @param moment second moment of an element before its lower bound.
 */
export function applyChanges(
  p: ReferenceTensor,
  gradient: (i: number) => number,
  moment: (i: number) => number,
  [rho = 0, , , learningRate = 0]: Iterable<number> & { readonly [index: number]: number },
  attributes: AdafactorAttributes,
): void {
  const { weightDecay, eps2, threshold, scaleParameter } = attributes;
  const count = p.data.length;
  const changes = Float64Array.from(
    { length: count },
    (_, i) => gradient(i) / Math.sqrt(Math.max(moment(i), floorOf(attributes))),
  );
  const rootMeanSquare = (data: Float64Array): number => Math.sqrt(data.reduce((sum, x) => sum + x * x, 0) / count);
  const scale = scaleParameter ? Math.max(eps2, rootMeanSquare(p.data)) : 1;
  const step = (rho * scale) / Math.max(1, rootMeanSquare(changes) / threshold);
  for (let i = 0; i < count; i++) p.data[i] = at(p, i) * (1 - learningRate * weightDecay) - step * changes[i]!;
}
