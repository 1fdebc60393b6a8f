import type { Adapter, Tensors } from "../adapter/adapter";
import type { LoadedModel } from "../io/load-model";
import type { Lease } from "../gpu/pool";
import type { TensorStore } from "../run/store";
import { Tensor } from "../tensor";

/** An adapter as a directory holds it, or as a trainer's snapshot has it. */
export interface AdapterWeights {
  readonly adapter: Adapter;
  readonly tensors: Tensors;
}

/** A model's weights and an adapter's tensors, without gradients and moments: what using an adapter needs. */
export class InferenceStore implements TensorStore {
  readonly #tensors = new Map<string, Tensor>();

  private constructor(private readonly loaded: LoadedModel) {}

  /** @throws OutOfMemoryError when memory runs out; it is then as it was. */
  static async create(loaded: LoadedModel, weights: AdapterWeights | undefined): Promise<InferenceStore> {
    const store = new InferenceStore(loaded);
    const { device } = loaded.engine;
    const tensors = weights?.tensors ?? new Map<string, never>();
    await device.pool.checked("the adapter", () => {
      for (const [name, { shape }] of tensors) store.#tensors.set(name, new Tensor(device, shape, "f32", "weight"));
    });
    for (const [name, { data }] of tensors) store.#tensors.get(name)?.write(data);
    return store;
  }

  lease(name: string): Lease {
    const found = this.#tensors.get(name) ?? this.loaded.weights.get(name);
    if (!found) throw new Error(`Neither the model nor the adapter has a tensor ${name}.`);
    return found.lease;
  }

  dispose(): void {
    for (const tensor of this.#tensors.values()) tensor.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
