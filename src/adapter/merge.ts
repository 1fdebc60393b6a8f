import { ConfigError } from "../base/errors";
import type { FloatTensor } from "../io/safetensors";
import type { Model } from "../model/model";
import type { Adapter, LowRankUpdate, Tensors } from "./adapter";
import { maskedOutputs, outputMaskName } from "./masked";

/**
 * How each parameter of a checkpoint reads with an adapter merged in: W' = W + scale * B A for low-rank updates
 * (transposed where the weight is stored [in, out]), trained copies in place of their originals, masked outputs 0.
 * @throws ConfigError for an adapter that is no change of weights.
 */
export function mergedParameter(
  adapter: Adapter,
  model: Model,
  tensors: Tensors,
): (name: string, value: FloatTensor) => FloatTensor {
  const updates = adapter.updates?.(model, tensors);
  if (!updates && !adapter.merged && !adapter.trainsInPlace) {
    throw new ConfigError(
      `${adapter.kind} adds modules to the network; it cannot be merged into its weights.`,
      "Save it with saveAdapter, and load it beside the model.",
    );
  }
  const transposed = new Set(model.projections.filter(({ layout }) => layout === "in_out").map(({ name }) => name));
  return (name, value) => {
    const trained = tensors.get(name) ?? adapter.merged?.(model, tensors, name, value) ?? value;
    const module = name.replace(/\.weight$/, "");
    const update = module === name ? undefined : updates?.get(module);
    const whole = update ? withUpdate(trained, update, transposed.has(module)) : trained;
    const projection = name.replace(/\.(?:weight|bias)$/, "");
    const mask = tensors.get(outputMaskName(projection));
    return mask ? maskedOutputs(whole, mask, transposed.has(projection)) : whole;
  };
}

/** weight + scale * B A. */
export function withUpdate(weight: FloatTensor, { a, b, scale }: LowRankUpdate, isTransposed: boolean): FloatTensor {
  const [rank = 0, inner = 0] = a.shape;
  const width = weight.shape[1] ?? 1;
  const data = weight.data.map((value, i) => {
    const [row, column] = [Math.floor(i / width), i % width];
    const [out, into] = isTransposed ? [column, row] : [row, column];
    let sum = 0;
    for (let k = 0; k < rank; k++) sum += b.data[out * rank + k]! * a.data[k * inner + into]!;
    return value + scale * sum;
  });
  return { shape: weight.shape, data };
}
