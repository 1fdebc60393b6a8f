import { ConfigError } from "../base/errors";
import type { FloatTensor } from "../io/safetensors";
import { linear } from "../ops/linear";
import { scaleColumns } from "../ops/scale_columns";
import type { Adapter } from "./adapter";
import { constant } from "./initial";

/** Name of the mask [out] of a projection's outputs. */
export const outputMaskName = (projection: string): string => `${projection}.output_mask`;

/**
 * An adapter on a model some of whose projections have their outputs masked: 1 leaves one as it is, 0 takes it out. Masks
 * start at 1 and learn nothing; whoever prunes writes them.
 * @param masked names of the projections.
 */
export function withOutputMasks(adapter: Adapter, masked: readonly string[]): Adapter {
  const names = new Set(masked);
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
        "Parts of the model itself are pruned; an adapter's files cannot say which.",
        "Use saveMerged(directory, trainer): it writes the pruned model with the adapter in it.",
      );
    },
  };
}

/** A weight [out, in], or [in, out] if transposed, or a bias [out], with masked outputs 0. */
export function maskedOutputs({ shape, data }: FloatTensor, mask: FloatTensor, transposed: boolean): FloatTensor {
  const outputs = mask.data.length;
  const perOutput = shape.length === 1 || transposed ? 1 : data.length / outputs;
  return { shape, data: data.map((value, i) => value * mask.data[Math.floor(i / perOutput) % outputs]!) };
}
