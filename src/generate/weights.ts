import type { Adapter, Tensors } from "../adapter/adapter";
import type { LoadedModel } from "../io/load-model";
import type { Memory } from "../gpu/pool";
import { originalName } from "../run/store";
import type { TensorStore } from "../run/store";
import { Tensor } from "../tensor";

/** An adapter with its tensors, from a directory or from a trainer's snapshot. */
export interface AdapterWeights {
  readonly adapter: Adapter;
  readonly tensors: Tensors;
}

/** The tensors that inference needs: a model's weights and an adapter's, without gradients and moments. */
export class InferenceStore implements TensorStore {
  readonly #tensors = new Map<string, Tensor>();
  /** Weights of the model by the names of what a trained copy was made of. */
  readonly #originals: ReadonlyMap<string, Tensor>;

  private constructor(private readonly loaded: LoadedModel) {
    this.#originals = new Map([...loaded.weights].map(([name, tensor]) => [originalName(name), tensor]));
  }

  /** Uploads the adapter. @throws OutOfMemoryError when the driver has no memory; nothing stays allocated then. */
  static async create(loaded: LoadedModel, weights: AdapterWeights | undefined): Promise<InferenceStore> {
    const store = new InferenceStore(loaded);
    const { device } = loaded.engine;
    const tensors: Tensors = weights?.tensors ?? new Map();
    await device.pool.checked("the adapter", () => {
      for (const [name, { shape }] of tensors) store.#tensors.set(name, new Tensor(device, shape, "f32", "weight"));
    });
    for (const [name, { data }] of tensors) store.#tensors.get(name)?.write(data);
    return store;
  }

  lease(name: string): Memory {
    const tensor = this.#tensors.get(name) ?? this.loaded.weights.get(name) ?? this.#originals.get(name);
    if (!tensor) throw new Error(`Neither the model nor the adapter has a tensor ${name}.`);
    return tensor.lease;
  }

  /** Returns the adapter's memory. The model stays. */
  dispose(): void {
    for (const tensor of this.#tensors.values()) tensor.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
