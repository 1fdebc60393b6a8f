import type { Adapter } from "../adapter/adapter";
import { Random } from "../base/random";
import { elements } from "../base/shape";
import type { LoadedModel } from "../io/load-model";
import type { TensorSpec } from "../op/declaration";
import type { Lease } from "../gpu/pool";
import { layerOf } from "../model/model";
import type { Model } from "../model/model";
import { gradientName } from "../run/store";
import type { TensorStore } from "../run/store";
import { Tensor } from "../tensor";
import { momentNames } from "./optimizer";

/** Every tensor that an adapter trains on a model: its own, and the checkpoint's. */
export function trainableSpecs(model: Model, adapter: Adapter): ReadonlyMap<string, TensorSpec> {
  const specs = new Map<string, TensorSpec>();
  for (const { name, shape } of adapter.tensors(model)) specs.set(name, { shape, dtype: "f32" });
  const base = new Set(adapter.baseTensors?.(model) ?? []);
  for (const { name, shape } of model.parameters) if (base.has(name)) specs.set(name, { shape, dtype: "f32" });
  return specs;
}

/**
 * The memory of a run beside the frozen weights: trainable tensors, and a gradient and two moments for each that still
 * learns. Looks names up for plans; what it does not own is the model's.
 */
export class TrainState implements TensorStore {
  readonly #tensors = new Map<string, Tensor>();
  readonly #live: Map<string, TensorSpec>;
  readonly specs: ReadonlyMap<string, TensorSpec>;

  private constructor(
    private readonly loaded: LoadedModel,
    adapter: Adapter,
  ) {
    this.specs = trainableSpecs(loaded.model, adapter);
    this.#live = new Map(this.specs);
  }

  /** Allocates and fills the trainable tensors, gradients and moments. @throws DeviceError when memory runs out. */
  static async create(loaded: LoadedModel, adapter: Adapter, seed: number): Promise<TrainState> {
    const state = new TrainState(loaded, adapter);
    await loaded.engine.device.pool.checked("the adapter and its optimizer state", () =>
      state.#allocate(adapter, seed),
    );
    return state;
  }

  async #allocate(adapter: Adapter, seed: number): Promise<void> {
    const random = new Random(seed, 1);
    for (const tensor of adapter.tensors(this.loaded.model)) {
      this.#add(tensor.name, tensor.initial(random), tensor.shape);
    }
    for (const [name, { shape }] of this.specs) {
      if (!adapter.trainsInPlace && !this.#tensors.has(name)) {
        const source = this.loaded.weights.get(name) as Tensor;
        this.#add(name, (await source.read()) as Float32Array, shape);
      }
      for (const extra of [gradientName(name), ...momentNames(name)]) {
        this.#add(extra, new Float32Array(elements(shape)), shape);
      }
    }
  }

  #add(name: string, data: Float32Array, shape: readonly number[]): void {
    this.#tensors.set(name, Tensor.from(this.loaded.engine.device, data, shape, "state"));
  }

  /** Trainable tensors that still learn. */
  get live(): ReadonlyMap<string, TensorSpec> {
    return this.#live;
  }

  /** Names of those that do not any more. */
  get frozen(): readonly string[] {
    return [...this.specs.keys()].filter((name) => !this.#live.has(name));
  }

  /** Live tensors of the transformer layers, by layer. */
  liveByLayer(): ReadonlyMap<number, readonly string[]> {
    const layers = new Map<number, string[]>();
    for (const name of this.#live.keys()) {
      const layer = layerOf(name);
      if (layer !== undefined) layers.set(layer, [...(layers.get(layer) ?? []), name]);
    }
    return layers;
  }

  /** Freezes tensors for good: their gradients and moments go back to the driver, the tensors stay. */
  freeze(names: readonly string[]): void {
    for (const name of names) {
      if (!this.#live.delete(name)) continue;
      for (const extra of [gradientName(name), ...momentNames(name)]) {
        this.#tensors.get(extra)?.dispose();
        this.#tensors.delete(extra);
      }
    }
  }

  /** A trainable tensor. */
  tensor(name: string): Tensor {
    return (this.#tensors.get(name) ?? this.loaded.weights.get(name)) as Tensor;
  }

  lease(name: string): Lease {
    return this.tensor(name).lease;
  }

  /** Copies the trainable tensors to the host, by name. */
  async snapshot(): Promise<Map<string, { shape: readonly number[]; data: Float32Array }>> {
    const copies = new Map<string, { shape: readonly number[]; data: Float32Array }>();
    for (const [name, { shape }] of this.specs) {
      copies.set(name, { shape, data: (await this.tensor(name).read()) as Float32Array });
    }
    return copies;
  }

  /** Overwrites trainable tensors, as a saved adapter has them. */
  restore(tensors: ReadonlyMap<string, { readonly data: Float32Array }>): void {
    for (const [name, { data }] of tensors) this.tensor(name).write(data);
  }

  dispose(): void {
    for (const tensor of this.#tensors.values()) tensor.dispose();
    this.#tensors.clear();
  }
}
