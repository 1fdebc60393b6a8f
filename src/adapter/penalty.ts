import { add } from "../ops/add";
import { scale } from "../ops/scale";
import type { Recorder, Value } from "../tape/tape";

/** The mean of some terms [1] times a weight, as a penalty on the loss: [1]. */
export function meanPenalty(recorder: Recorder, terms: readonly Value[], weight: number): Value {
  const sum = terms.reduce((a, b) => recorder.apply(add, { a, b }, {}));
  return recorder.apply(scale, { x: sum }, { factor: weight / terms.length });
}
