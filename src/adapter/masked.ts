import { headKey } from "../io/peft-keys";
import { entryOf } from "../io/safetensors";
import type { FloatTensor } from "../io/safetensors";
import { linear } from "../ops/linear";
import { scaleColumns } from "../ops/scale_columns";
import type { Adapter } from "./adapter";
import { constant } from "./initial";
import { loraName } from "./lora";

const MASK = ".output_mask";

/** Name of the mask [out] of a projection's outputs. */
export const outputMaskName = (projection: string): string => `${projection}${MASK}`;

/** The projections whose masks are among tensors with these names. */
export const maskedProjections = (names: Iterable<string>): string[] =>
  [...names].filter((name) => name.endsWith(MASK)).map((name) => name.slice(0, -MASK.length));

/**
 * An adapter that also multiplies the outputs of some projections by masks [out]: 1 keeps an output, 0 removes it. Masks
 * begin with 1 and do not learn; the structural pruner writes them. In files, what LoRA's B adds to a removed output is 0.
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
    toFile(model, tensors) {
      const withoutMasked = new Map(tensors);
      for (const name of names) {
        const mask = entryOf(tensors, outputMaskName(name), "the adapter");
        for (const key of [loraName(name, "B"), `${name}.bias`]) {
          const tensor = tensors.get(key);
          if (tensor) withoutMasked.set(key, maskedOutputs(tensor, mask, false));
        }
      }
      const keyed = () => new Map([...withoutMasked].map(([name, tensor]) => [headKey(name), tensor]));
      return adapter.toFile?.(model, withoutMasked) ?? { config: adapter.peftConfig(model), tensors: keyed() };
    },
  };
}

/** A weight [out, in], or [in, out] if transposed, or a bias [out], times the mask [out] of the outputs. */
export function maskedOutputs({ shape, data }: FloatTensor, mask: FloatTensor, isTransposed: boolean): FloatTensor {
  const outputs = mask.data.length;
  const perOutput = shape.length === 1 || isTransposed ? 1 : data.length / outputs;
  return { shape, data: data.map((value, i) => value * mask.data[Math.floor(i / perOutput) % outputs]!) };
}
