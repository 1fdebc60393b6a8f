import type { Adapter } from "../../adapter/adapter";
import { ConfigError, ShapeError } from "../../base/errors";
import { Random } from "../../base/random";
import { elements, formatShape } from "../../base/shape";
import type { Shape } from "../../base/shape";
import type { LoadedModel } from "../../io/load-model";
import type { TensorSpec } from "../../op/declaration";
import type { Lease } from "../../gpu/pool";
import type { TensorStore } from "../../run/store";
import type { Statistics } from "../../ops/shared/statistics";
import { Tensor } from "../../tensor";
import { companionNames, gradientName, maskName, originalName } from "./names";
import { fixedSpecs, trainableSpecs } from "./specs";
import type { TrainableSpec } from "./specs";

export interface StateOptions {
  /** Those that get a gradient; default all. */
  readonly live?: ReadonlyMap<string, TensorSpec>;
  /** ... and do not learn any more. */
  readonly frozen?: readonly string[];
  readonly statistics?: Statistics | undefined;
}

/**
 * The memory of a run beside the frozen weights: trainable tensors, and a gradient and two moments for each that still
 * learns. Looks names up for plans; what it does not own is the model's.
 */
export class TrainableTensors implements TensorStore {
  readonly #tensors = new Map<string, Tensor>();
  readonly #live: Map<string, TrainableSpec>;
  /** Every tensor that this run trains, live or frozen. */
  readonly specs: ReadonlyMap<string, TrainableSpec>;
  /** ... and those of the adapter that never learn. */
  readonly fixed: ReadonlyMap<string, TrainableSpec>;
  readonly #originals: ReadonlyMap<string, Tensor>;

  readonly #masked = new Set<string>();
  #overwrites = 0;
  #writes = 0;
  /** Trained by name, but without a gradient. */
  readonly #unreached: ReadonlySet<string>;

  private constructor(
    private readonly loaded: LoadedModel,
    adapter: Adapter,
    private readonly statistics: Statistics | undefined,
    { live, frozen = [] }: Pick<StateOptions, "live" | "frozen">,
  ) {
    this.specs = trainableSpecs(loaded.model, adapter);
    // In the order of the specs: it is that of the global norm's sum.
    this.#live = new Map([...this.specs].filter(([name]) => live?.has(name) ?? true));
    this.#unreached = new Set([...this.specs.keys()].filter((name) => !this.#live.has(name)));
    for (const name of frozen) this.#live.delete(name);
    this.fixed = fixedSpecs(loaded.model, adapter);
    this.#originals = new Map([...loaded.weights].map(([name, tensor]) => [originalName(name), tensor]));
  }

  /**
   * Allocates and fills the trainable tensors, and gradients and moments of those that learn.
   * @throws OutOfMemoryError when memory runs out; it is then as it was.
   */
  static async create(
    loaded: LoadedModel,
    adapter: Adapter,
    seed: number,
    { statistics, ...learning }: StateOptions = {},
  ): Promise<TrainableTensors> {
    const state = new TrainableTensors(loaded, adapter, statistics, learning);
    await state.#allocate("the adapter and its optimizer state", [...state.#wanted(adapter)]);
    try {
      await state.#fill(adapter, seed);
      return state;
    } catch (error) {
      state.dispose();
      throw error;
    }
  }

  /** Every tensor that this run owns. */
  *#wanted(adapter: Adapter): Generator<readonly [name: string, shape: Shape]> {
    for (const [name, { shape }] of this.fixed) yield [name, shape];
    for (const [name, { shape }] of this.specs) {
      const isOwn = !adapter.trainsInPlace || !this.loaded.weights.has(name);
      if (isOwn) yield [name, shape];
      for (const extra of this.#live.has(name) ? this.companions(name) : []) yield [extra, shape];
    }
  }

  /** All or none. @throws OutOfMemoryError naming `what`. */
  async #allocate(what: string, wanted: readonly (readonly [name: string, shape: Shape])[]): Promise<void> {
    const { device } = this.loaded.engine;
    const made = await device.pool.checked(what, () =>
      wanted.map(([name, shape]) => [name, new Tensor(device, shape, "f32", "state")] as const),
    );
    for (const [name, tensor] of made) this.#tensors.set(name, tensor);
  }

  /** Gives tensors their first values; gradients and moments are 0 as they are made. */
  async #fill(adapter: Adapter, seed: number): Promise<void> {
    const random = new Random(seed, 1);
    const own = adapter.tensors(this.loaded.model);
    for (const tensor of own) {
      const { name, initialRows } = tensor;
      const table = initialRows && this.loaded.weights.get(initialRows.table);
      this.tensor(name).write(table ? await table.readRows(initialRows.rows(random)) : tensor.initial(random));
    }
    const isFilled = new Set(own.map(({ name }) => name));
    for (const name of adapter.trainsInPlace ? [] : this.specs.keys()) {
      if (!isFilled.has(name)) this.tensor(name).write(await this.loaded.weights.get(name)!.read());
    }
  }

  /** Tensors that exist beside a live one, of its shape: gradient, moments, statistics, mask. */
  companions(name: string): readonly string[] {
    return companionNames(name, { statistics: this.statistics, isMasked: this.#masked.has(name) });
  }

  /** Makes elements 0 for good where a mask is 0. @throws OutOfMemoryError when memory runs out. */
  async prune(masks: ReadonlyMap<string, Float32Array>): Promise<void> {
    const values = new Map<string, Float32Array>();
    for (const name of masks.keys()) values.set(name, await this.tensor(name).read());
    const wanted = [...masks.keys()].map((name) => [maskName(name), this.tensor(name).shape] as const);
    await this.#allocate("the masks of pruned tensors", wanted);
    for (const [name, mask] of masks) {
      this.#masked.add(name);
      this.tensor(maskName(name)).write(mask);
      this.tensor(name).write(values.get(name)!.map((value, i) => (mask[i] === 0 ? 0 : value)));
    }
  }

  /** All that decides how training goes on: every tensor but gradients. */
  get kept(): ReadonlyMap<string, TensorSpec> {
    const beside = [...this.#live].flatMap(([name, spec]) =>
      this.companions(name).flatMap((own) => (own === gradientName(name) ? [] : [[own, spec] as const])),
    );
    return new Map([...this.fixed, ...this.specs, ...beside]);
  }

  /**
   * Overwrites all that is kept, as it was when these tensors had masks.
   * @throws OutOfMemoryError when memory runs out, and whatever `read` throws.
   */
  async load(masked: readonly string[], read: (name: string) => Promise<Float32Array>): Promise<void> {
    const wanted = masked.map((name) => [maskName(name), this.#live.get(name)!.shape] as const);
    await this.#allocate("the masks of pruned tensors", wanted);
    for (const name of masked) this.#masked.add(name);
    for (const name of this.kept.keys()) this.tensor(name).write(await read(name));
  }

  /** Tensors with a mask. */
  get masked(): ReadonlySet<string> {
    return this.#masked;
  }

  /** Trainable tensors that still learn. */
  get live(): ReadonlyMap<string, TrainableSpec> {
    return this.#live;
  }

  /** Names of those that do not any more. */
  get frozen(): readonly string[] {
    return [...this.specs.keys()].filter((name) => !this.#live.has(name) && !this.#unreached.has(name));
  }

  /** Live tensors of the transformer layers, by layer. */
  liveByLayer(): ReadonlyMap<number, readonly string[]> {
    const layers = new Map<number, string[]>();
    for (const [name, { layer }] of this.#live) {
      if (layer !== undefined) layers.set(layer, [...(layers.get(layer) ?? []), name]);
    }
    return layers;
  }

  /** Lowest transformer layer whose adapter still learns. */
  get horizon(): number | undefined {
    const layers = [...this.liveByLayer().keys()];
    return layers.length > 0 ? Math.min(...layers) : undefined;
  }

  /** Freezes tensors for good: their gradients and moments go back to the driver, the tensors stay. */
  freeze(names: readonly string[]): void {
    for (const name of names) {
      if (!this.#live.delete(name)) continue;
      for (const extra of this.companions(name)) {
        this.#tensors.get(extra)?.dispose();
        this.#tensors.delete(extra);
      }
      this.#masked.delete(name);
    }
  }

  /** Copies a tensor to the host. */
  read(name: string): Promise<Float32Array> {
    return this.tensor(name).read();
  }

  /** A trainable tensor. */
  tensor(name: string): Tensor {
    const loaded = this.loaded.weights;
    return (this.#tensors.get(name) ?? loaded.get(name) ?? this.#originals.get(name))!;
  }

  /** How often a tensor that does not learn was overwritten: what depends on frozen tensors alone is void then. */
  get overwrites(): number {
    return this.#overwrites;
  }

  /** How often a tensor was overwritten but by training itself. */
  get writes(): number {
    return this.#writes;
  }

  /** Overwrites a tensor. */
  write(name: string, data: Float32Array): void {
    this.#writes++;
    if (!this.#live.has(name)) this.#overwrites++;
    this.tensor(name).write(data);
  }

  lease(name: string): Lease {
    return this.tensor(name).lease;
  }

  /** Copies the adapter's and all trained tensors to the host, by name. */
  async snapshot(): Promise<Map<string, { shape: readonly number[]; data: Float32Array }>> {
    const copies = new Map<string, { shape: readonly number[]; data: Float32Array }>();
    for (const [name, { shape }] of [...this.fixed, ...this.specs]) {
      copies.set(name, { shape, data: await this.tensor(name).read() });
    }
    return copies;
  }

  /**
   * Overwrites tensors of the adapter and trained ones, as a saved adapter has them.
   * @throws ConfigError for any other tensor, ShapeError for another size; nothing is then overwritten.
   */
  restore(tensors: ReadonlyMap<string, { readonly data: Float32Array }>): void {
    for (const [name, { data }] of tensors) {
      const spec = this.specs.get(name) ?? this.fixed.get(name);
      if (!spec)
        throw new ConfigError(`${name} is no tensor of this adapter.`, "Load it for the model it was trained on.");
      if (data.length === elements(spec.shape)) continue;
      throw new ShapeError(
        `${name} has ${data.length} elements; this adapter makes it ${formatShape(spec.shape)}.`,
        "Load the model that the adapter was trained on, with the same rank and number of labels.",
      );
    }
    for (const [name, { data }] of tensors) this.write(name, data);
  }

  dispose(): void {
    for (const tensor of this.#tensors.values()) tensor.dispose();
    this.#tensors.clear();
  }
}
