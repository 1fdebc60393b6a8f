import { ConfigError } from "../base/errors";
import type { FloatTensor } from "../io/safetensors";
import type { Model } from "../model/model";
import type { Adapter, Tensors } from "./adapter";
import { withUpdate } from "./low-rank";
import { maskedOutputs, outputMaskName } from "./masked";

/**
 * A function that gives each parameter of a checkpoint, by name and value, with an adapter merged into it:
 * W' = W + scale * B A for low-rank updates (transposed where W is stored [in, out]), trained copies instead of their
 * originals, and 0 for masked outputs.
 * @throws ConfigError for an adapter that cannot be expressed as a change of weights.
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
      "Save it with saveAdapter, and load it together with the model.",
    );
  }
  const transposed = new Set(model.projections.filter(({ layout }) => layout === "in_out").map(({ name }) => name));
  return (name, value) => {
    const trained = tensors.get(name) ?? adapter.merged?.(model, tensors, name, value) ?? value;
    const module = name.replace(/\.weight$/, "");
    const update = module === name ? undefined : updates?.get(module);
    const updated = update ? withUpdate(trained, update, transposed.has(module)) : trained;
    const projection = name.replace(/\.(?:weight|bias)$/, "");
    const mask = tensors.get(outputMaskName(projection));
    return mask ? maskedOutputs(updated, mask, transposed.has(projection)) : updated;
  };
}
