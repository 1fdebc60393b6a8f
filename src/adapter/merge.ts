import { ConfigError } from "../base/errors";
import type { FloatTensor } from "../io/safetensors";
import { createModel } from "../model/families";
import type { Model, Projection } from "../model/model";
import type { Adapter, Tensors } from "./adapter";
import { withUpdate } from "./low-rank";
import { maskedOutputs, outputMaskName } from "./masked";

/** The parts of a merged model that the loaded one does not have. */
export interface MergedBiases {
  /** The config.json of the merged model. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Biases by name. */
  readonly biases: Tensors;
}

/**
 * The biases that an adapter gives to projections without one, as a checkpoint has them: config.json can only give a bias to
 * all projections of some roles, so that those which got none have one of zeros.
 * @throws ConfigError where config.json cannot express them.
 */
export function mergedBiases({ projections, config, family, biasKeys = {} }: Model, tensors: Tensors): MergedBiases {
  const added = projections.filter(({ name, bias }) => !bias && tensors.has(`${name}.bias`));
  if (added.length === 0) return { config, biases: new Map() };
  const keyOf = ({ name, role }: Projection): string => {
    const key = Object.keys(biasKeys).find((candidate) => role !== undefined && biasKeys[candidate]!.includes(role));
    if (key !== undefined) return key;
    throw new ConfigError(
      `The adapter gives ${name} a bias, which the config.json of ${family} cannot express.`,
      "Save it with saveAdapter, and load it together with the model.",
    );
  };
  const flags = added.map((projection): [string, boolean] => [keyOf(projection), true]);
  const biasedConfig: MergedBiases["config"] = { ...config, ...Object.fromEntries(flags) };
  const hadBias = new Set(projections.filter(({ bias }) => bias).map(({ name }) => name));
  const gainedBias = createModel(biasedConfig).projections.filter(({ name, bias }) => bias && !hadBias.has(name));
  const biases = gainedBias.map(({ name, out }): [string, FloatTensor] => [
    `${name}.bias`,
    tensors.get(`${name}.bias`) ?? { shape: [out], data: new Float32Array(out) },
  ]);
  return { config: biasedConfig, biases: new Map(biases) };
}

/**
 * A function that gives each parameter of a checkpoint, by name and value, with an adapter merged into it:
 * W' = W + scale * B A for low-rank updates (transposed where W is stored [in, out]), what `Adapter.merged` makes of it for
 * others, trained copies instead of their originals, and 0 for masked outputs.
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
    const trained = tensors.get(name) ?? value;
    const changed = adapter.merged?.(model, tensors, name, trained) ?? trained;
    const module = name.replace(/\.weight$/, "");
    const update = module === name ? undefined : updates?.get(module);
    const updated = update ? withUpdate(changed, update, transposed.has(module)) : changed;
    const projection = name.replace(/\.(?:weight|bias)$/, "");
    const mask = tensors.get(outputMaskName(projection));
    return mask ? maskedOutputs(updated, mask, transposed.has(projection)) : updated;
  };
}
