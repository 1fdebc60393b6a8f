import { ConfigError } from "../base/errors";
import type { FloatTensor } from "../io/safetensors";
import { linear } from "../ops/linear";
import { scaleColumns } from "../ops/scale_columns";
import type { Adapter } from "./adapter";
import { constant } from "./initial";

/** Name of the mask [out] of a projection's outputs. */
export const outputMaskName = (projection: string): string => `${projection}.output_mask`;

/**
 * An adapter that also multiplies the outputs of some projections by masks [out]: 1 keeps an output, 0 removes it. Masks
 * begin with 1 and do not learn; the structural pruner writes them.
 * @param projections names of the masked projections.
 */
export function withOutputMasks(adapter: Adapter, projections: readonly string[]): Adapter {
  const names = new Set(projections);
  return {
    ...adapter,
    tensors: (model) => [
      ...adapter.tensors(model),
      ...model.projections
        .filter(({ name }) => names.has(name))
        .map(({ name, out, layer }) => ({ ...constant(outputMaskName(name), [out], 1), layer, isFixed: true })),
    ],
    linear(forward, site) {
      const adapted = adapter.linear?.(forward, site);
      if (!names.has(site.name)) return adapted;
      const { recorder } = forward;
      const inputs = { x: site.x, w: site.weight, bias: site.biasValue };
      const a = adapted ?? recorder.apply(linear, inputs, { layout: site.layout });
      return recorder.apply(scaleColumns, { a, b: recorder.parameter(outputMaskName(site.name), [site.out]) }, {});
    },
    toFile() {
      throw new ConfigError(
        "Parts of the base model are pruned, which an adapter's files cannot express.",
        "Use saveMerged(directory, trainer), which writes the pruned model with the adapter merged into it.",
      );
    },
  };
}

/** A weight [out, in], or [in, out] if transposed, or a bias [out], times the mask [out] of the outputs. */
export function maskedOutputs({ shape, data }: FloatTensor, mask: FloatTensor, isTransposed: boolean): FloatTensor {
  const outputs = mask.data.length;
  const perOutput = shape.length === 1 || isTransposed ? 1 : data.length / outputs;
  return { shape, data: data.map((value, i) => value * mask.data[Math.floor(i / perOutput) % outputs]!) };
}
