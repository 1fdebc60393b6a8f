import type { Adapter } from "safetape";
import { Random } from "../../src/base/random";
import { elements } from "../../src/base/shape";
import type { Shape } from "../../src/base/shape";
import type { Batch } from "../../src/data/batch";
import type { Model } from "../../src/model/model";
import type { ReferenceTensor } from "../../src/op/declaration";
import { evaluate } from "../../src/testing/evaluate";
import type { Value } from "../../src/tape/tape";
import { batchInputs } from "../../src/train/plans/inputs";
import type { Trace } from "../../src/train/plans/trace";

/** Random float64 values for every tensor of a model and an adapter, of deviation 0.5 and mean 0, or 1 for weights of norms. */
export function randomTensors(model: Model, adapter: Adapter, seed = 1): Map<string, ReferenceTensor> {
  const random = new Random(seed);
  const values = ({ name, shape }: { readonly name: string; readonly shape: Shape }): [string, ReferenceTensor] => {
    const mean = shape.length === 1 && name.endsWith(".weight") ? 1 : 0;
    const data = Float64Array.from({ length: elements(shape) }, () => mean + random.normal() / 2);
    return [name, { shape, data }];
  };
  return new Map([...model.parameters, ...adapter.tensors(model)].map(values));
}

/** Computes values of a trace in float64 with the ops' references. @returns their elements, in the order of `values`. */
export function evaluateTrace(
  { tape }: Pick<Trace, "tape">,
  model: Model,
  batch: Batch,
  tensors: ReadonlyMap<string, ReferenceTensor>,
  values: readonly Value[],
): readonly Float64Array[] {
  const batchData = batchInputs(model, batch);
  const inputs = tape.values.flatMap(({ shape, origin }): [string, ReferenceTensor][] => {
    if (origin.kind !== "input") return [];
    const data = batchData[origin.name];
    if (!data) throw new Error(`A batch has no input ${origin.name}.`);
    return [[origin.name, { shape, data: Float64Array.from(data) }]];
  });
  const externals = Object.fromEntries([...inputs, ...tensors]);
  return evaluate(tape, externals, values).map(({ data }) => Float64Array.from(data));
}
