import type { Adapter } from "./adapter";
import { constant } from "./initial";

/**
 * An adapter on a model of which some weights are others: PEFT puts tensors of a file that are the base model's into it (embeddings
 * of a vocabulary that has grown, `save_embedding_layers`). They do not learn, and are saved with the adapter.
 * @param weights names of the model's parameters; their values come from the file.
 */
export function withBaseWeights(adapter: Adapter, weights: readonly string[]): Adapter {
  const names = new Set(weights);
  return {
    ...adapter,
    tensors: (model) => [
      ...adapter.tensors(model),
      ...model.parameters
        .filter(({ name }) => names.has(name))
        .map(({ name, shape, layer }) => ({
          ...constant(name, shape, 0),
          layer,
          isFixed: true,
          initialRows: { table: name },
        })),
    ],
  };
}
