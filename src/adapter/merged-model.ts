import type { FloatTensor } from "../io/safetensors";
import type { Model } from "../model/model";
import type { Adapter, Tensors } from "./adapter";
import { mergedBiases, mergedParameter } from "./merge";

/** A tensor of a merged model, which is computed when it is written. */
export interface MergedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: () => Promise<Float32Array>;
}

/** A model with an adapter merged into its weights. */
export interface MergedModel {
  /** Its config.json. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly tensors: readonly MergedTensor[];
}

/**
 * Describes a model with an adapter merged into its weights. A last projection that shares the embeddings' table no more, since one of them
 * was trained alone, has a weight of its own.
 * @param tensors the adapter's, by name.
 * @param read values of a weight as it was loaded; called once for each, when it is written.
 * @throws ConfigError for an adapter that cannot be expressed as a change of weights, or adds biases that config.json cannot express.
 */
export function mergedModel(
  adapter: Adapter,
  model: Model,
  tensors: Tensors,
  read: (name: string) => Promise<Float32Array>,
): MergedModel {
  const merged = mergedParameter(adapter, model, tensors);
  const { config, biases } = mergedBiases(model, tensors);
  const asStored = model.parameters.map(({ name, shape }): MergedTensor => ({
    name,
    shape,
    data: async () => merged(name, { shape, data: await read(name) }).data,
  }));
  const added = [...biases].map(([name, bias]): MergedTensor => ({
    name,
    shape: bias.shape,
    data: () => Promise.resolve(merged(name, bias).data),
  }));
  const output = untiedOutput(adapter, model, tensors, read);
  return {
    config: output ? { ...config, tie_word_embeddings: false } : config,
    tensors: [...asStored, ...added, ...(output ? [output] : [])],
  };
}

/** The last projection of a merged model that does not share the embeddings' table any more; undefined where it does, or never did. */
function untiedOutput(
  adapter: Adapter,
  model: Model,
  tensors: ReadonlyMap<string, FloatTensor>,
  read: (name: string) => Promise<Float32Array>,
): MergedTensor | undefined {
  const tie = adapter.tie?.(model);
  if (!model.tiedOutput || tie === undefined || tie === "shared") return undefined;
  const { module, table } = model.tiedOutput;
  const name = `${module}.weight`;
  const { shape } = model.parameters.find((parameter) => parameter.name === table)!;
  // A projection that does not learn keeps the table as it was loaded.
  return { name, shape, data: () => (tie === "own" ? Promise.resolve(tensors.get(name)!.data) : read(table)) };
}
