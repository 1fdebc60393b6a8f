import type { Adapter, AdapterTensor } from "../../adapter/adapter";
import { ConfigError, ShapeError } from "../../base/errors";
import { Random } from "../../base/random";
import { elements, formatShape } from "../../base/shape";
import type { LoadedModel } from "../../io/load-model";
import type { TensorSpec } from "../../op/declaration";
import type { Lease, Memory } from "../../gpu/pool";
import type { Statistics } from "../../ops/shared/statistics";
import { adamW } from "../../optimizer/adamw";
import type { Optimizer } from "../../optimizer/optimizer";
import { Tensor } from "../../tensor";
import { stateBuffers } from "./arenas";
import type { StateBuffer } from "./arenas";
import { companionsOf, firstOfSpan, gradientName, gradientOf, maskName, originalName } from "./names";
import type { Companion } from "./names";
import { fixedSpecs, trainableSpecs } from "./specs";
import type { TrainableSpec } from "./specs";

export interface TrainableTensorsOptions {
  /** Tensors that get a gradient. Default all. */
  readonly live?: ReadonlyMap<string, TensorSpec>;
  /** Tensors among them that are frozen. Default none. */
  readonly frozen?: readonly string[];
  /** Frozen tensors whose gradients the plans of steps still compute. Default none. */
  readonly stillComputed?: ReadonlySet<string>;
  /** Tensors that get values right after, so that none are made from the model's weights for them. Default none. */
  readonly isGiven?: (name: string) => boolean;
  /** Statistics of gradients that the run collects. */
  readonly statistics?: readonly Statistics[];
  /** Decides what state they have in addition to gradients. Default AdamW. */
  readonly optimizer?: Optimizer;
}

/**
 * The memory of a run in addition to the model's weights: the trainable tensors, and for each that still learns a gradient,
 * the optimizer's state, and statistics where they are collected. As a store it finds tensors for plans by name, including the
 * model's weights.
 */
export class TrainableTensors {
  readonly #tensors = new Map<string, Tensor>();
  /** The buffers that it holds, by identifier. Tensors that were replaced have buffers of their own. */
  readonly #buffers = new Map<string, { readonly buffer: StateBuffer; readonly lease: Lease }>();
  readonly #live: Map<string, TrainableSpec>;
  #specs: ReadonlyMap<string, TrainableSpec>;
  #fixed: ReadonlyMap<string, TrainableSpec>;
  /** Names of the model's weights by those with which a plan finds the original of a trained copy. */
  readonly #originals: ReadonlyMap<string, string>;
  /** Names of tensors with a mask. */
  readonly #masked = new Set<string>();
  #overwrites = 0;
  #writes = 0;
  /** Trainable tensors that no op of the model reads, and that therefore get no gradient. */
  readonly #unreached: ReadonlySet<string>;
  /** Frozen tensors that have a gradient, since the plans of steps still compute it. */
  #stillComputed: ReadonlySet<string>;

  private constructor(
    private readonly loaded: LoadedModel,
    private readonly adapter: Adapter,
    private readonly statistics: readonly Statistics[],
    private readonly optimizer: Optimizer,
    { live, frozen = [], stillComputed }: Omit<TrainableTensorsOptions, "statistics" | "optimizer" | "isGiven">,
  ) {
    this.#specs = trainableSpecs(loaded.model, adapter);
    // In the order of the specs, since the global gradient norm is summed in this order.
    this.#live = new Map([...this.specs].filter(([name]) => live?.has(name) ?? true));
    this.#unreached = new Set([...this.specs.keys()].filter((name) => !this.#live.has(name)));
    for (const name of frozen) this.#live.delete(name);
    this.#stillComputed = this.#frozenOf(stillComputed);
    this.#fixed = fixedSpecs(loaded.model, adapter);
    this.#originals = new Map([...loaded.weights.keys()].map((name) => [originalName(name), name]));
  }

  /**
   * Allocates and fills the trainable tensors, and allocates gradients, moments and statistics of those that learn.
   * @throws OutOfMemoryError where memory runs out; nothing is then allocated.
   * @internal
   */
  static async create(
    loaded: LoadedModel,
    adapter: Adapter,
    seed: number,
    { statistics = [], optimizer = adamW(), isGiven = () => false, ...learning }: TrainableTensorsOptions = {},
  ): Promise<TrainableTensors> {
    const tensors = new TrainableTensors(loaded, adapter, statistics, optimizer, learning);
    await tensors.#allocate("the adapter and its optimizer state");
    try {
      await tensors.#fill(adapter, seed, isGiven);
      return tensors;
    } catch (error) {
      tensors.dispose();
      throw error;
    }
  }

  /** The buffers for the tensors that the run owns now. */
  #layout(): ReadonlyMap<string, StateBuffer> {
    return stateBuffers(this.loaded.model, this.adapter, (name) => this.companions(name));
  }

  /** Allocates the tensors that the run lacks, all of them or none. @throws OutOfMemoryError naming `what`. */
  async #allocate(what: string): Promise<void> {
    const missing = [...this.#layout()].filter(
      ([, { tensors }]) => ![...tensors.keys()].every((key) => this.#tensors.has(key)),
    );
    const { pool } = this.loaded.engine.device;
    const leases = await pool.checked(what, () => missing.map(([, { bytes }]) => pool.lease(bytes, "state")));
    missing.forEach(([id, buffer], i) => this.#hold(id, buffer, leases[i]!));
  }

  /** Lets the tensors of a buffer lie in it. */
  #hold(id: string, buffer: StateBuffer, lease: Lease): void {
    this.#buffers.set(id, { buffer, lease });
    for (const [key, { shape, offset, bytes }] of buffer.tensors) {
      const memory = { buffer: lease.buffer, offset, bytes };
      this.#tensors.set(key, new Tensor(this.loaded.engine.device, shape, "f32", memory));
    }
  }

  /** Writes the initial values. New tensors are zero, which is right for gradients, moments and statistics. */
  async #fill(adapter: Adapter, seed: number, isGiven: (name: string) => boolean): Promise<void> {
    const random = new Random(seed, 1);
    const added = adapter.tensors(this.loaded.model);
    for (const tensor of added) {
      if (tensor.initialFrom && isGiven(tensor.name)) continue;
      this.tensor(tensor.name).write(await this.#initial(tensor, random));
    }
    if (adapter.trainsInPlace) return;
    const addedNames = new Set(added.map(({ name }) => name));
    for (const name of this.specs.keys()) {
      if (!addedNames.has(name)) this.tensor(name).write(await this.loaded.weights.get(name)!.read());
    }
  }

  async #initial(tensor: AdapterTensor, random: Random): Promise<Float32Array> {
    const { initialRows: rows, initialFrom: from } = tensor;
    if (from) {
      const weight = this.loaded.weights.get(from.weight)!;
      return from.values(async () => ({ shape: weight.shape, data: await weight.read() }), random);
    }
    const table = rows && this.loaded.weights.get(rows.table);
    if (!table) return tensor.initial(random);
    const { scale } = rows;
    const values = await (rows.rows ? table.readRows(rows.rows(random)) : table.read());
    return scale ? values.map((value) => value * scale) : values;
  }

  /** The tensors that a trainable tensor has in addition: gradient, optimizer's state, statistics, mask. */
  companions(name: string): readonly Companion[] {
    const spec = this.specs.get(name);
    if (!spec) return [];
    if (!this.#live.has(name)) return this.#stillComputed.has(name) ? [gradientOf(name, spec.shape)] : [];
    const { statistics, optimizer } = this;
    return companionsOf(name, spec.shape, { optimizer, statistics, isMasked: this.#masked.has(name) });
  }

  /**
   * Sets elements to 0 for good where a mask is 0. @throws OutOfMemoryError where memory runs out.
   * @internal
   */
  async prune(masks: ReadonlyMap<string, Float32Array>): Promise<void> {
    const values = new Map<string, Float32Array>();
    for (const name of masks.keys()) values.set(name, await this.tensor(name).read());
    await this.#allocateMasks([...masks.keys()]);
    for (const [name, mask] of masks) {
      this.tensor(maskName(name)).write(mask);
      this.tensor(name).write(values.get(name)!.map((value, i) => (mask[i] === 0 ? 0 : value)));
    }
  }

  /** @throws OutOfMemoryError where memory runs out; no tensor then has a mask that it did not have. */
  async #allocateMasks(names: readonly string[]): Promise<void> {
    const before = new Set(this.#masked);
    for (const name of names) this.#masked.add(name);
    try {
      await this.#allocate("the masks of pruned tensors");
    } catch (error) {
      for (const name of names) if (!before.has(name)) this.#masked.delete(name);
      throw error;
    }
  }

  /** Every tensor that this run trains, live or frozen. */
  get specs(): ReadonlyMap<string, TrainableSpec> {
    return this.#specs;
  }

  /** Tensors of the adapter that never learn. */
  get fixed(): ReadonlyMap<string, TrainableSpec> {
    return this.#fixed;
  }

  /** The tensors of a checkpoint: all but gradients, which the next step computes. */
  get persistent(): ReadonlyMap<string, TensorSpec> {
    const companions = [...this.#live.keys()].flatMap((name) =>
      this.companions(name)
        .filter(({ key }) => key !== gradientName(name))
        .map(({ key, shape }): [string, TensorSpec] => [key, { shape, dtype: "f32" }]),
    );
    return new Map([...this.fixed, ...this.specs, ...companions]);
  }

  /**
   * Overwrites all persistent tensors.
   * @param masked names of the tensors that have a mask.
   * @throws OutOfMemoryError where memory runs out, and whatever `read` throws.
   * @internal
   */
  async load(masked: readonly string[], read: (name: string) => Promise<Float32Array>): Promise<void> {
    await this.#allocateMasks(masked);
    for (const name of this.persistent.keys()) this.tensor(name).write(await read(name));
  }

  /** Names of tensors with a mask. */
  get masked(): ReadonlySet<string> {
    return this.#masked;
  }

  /** Trainable tensors that still learn. */
  get live(): ReadonlyMap<string, TrainableSpec> {
    return this.#live;
  }

  /** Names of the trainable tensors that were frozen. */
  get frozen(): readonly string[] {
    return [...this.specs.keys()].filter((name) => !this.#live.has(name) && !this.#unreached.has(name));
  }

  /**
   * Names of the live tensors of each transformer layer, as policies see them. What lies below the layers belongs to the
   * lowest live one and freezes with it, since backward would otherwise pass through every layer for it. Tensors above the
   * layers are not listed.
   */
  liveByLayer(): ReadonlyMap<number, readonly string[]> {
    const layers = new Map<number, string[]>();
    const below: string[] = [];
    for (const [name, { layer }] of this.#live) {
      if (typeof layer === "number") layers.set(layer, [...(layers.get(layer) ?? []), name]);
      else if (layer === "below") below.push(name);
    }
    if (layers.size > 0) layers.get(Math.min(...layers.keys()))!.unshift(...below);
    return layers;
  }

  /**
   * Freezes tensors for good. Their gradients, moments, statistics and masks go back to the driver; the tensors stay. Where
   * others lie in the same buffers, that memory is returned by `closeGaps`.
   * @param computed tensors whose gradients the plans of steps compute from now on: a frozen one of them keeps its gradient.
   * @internal
   */
  freeze(names: readonly string[], computed: ReadonlySet<string> = new Set()): void {
    for (const name of names) {
      this.#live.delete(name);
      this.#masked.delete(name);
    }
    this.#stillComputed = this.#frozenOf(computed);
    const layout = this.#layout();
    const keys = new Set([...layout.values()].flatMap(({ tensors }) => [...tensors.keys()]));
    for (const [key, tensor] of this.#tensors) {
      if (keys.has(key)) continue;
      tensor.dispose();
      this.#tensors.delete(key);
    }
    for (const id of this.#buffers.keys()) if (!layout.has(id)) this.#return(id);
  }

  #return(id: string): void {
    const held = this.#buffers.get(id);
    if (held) this.loaded.engine.device.pool.return(held.lease);
    this.#buffers.delete(id);
  }

  /** The buffers with room for tensors that were frozen, as they are without it. */
  #withGaps(): [id: string, buffer: StateBuffer][] {
    return [...this.#layout()].filter(([id, { bytes }]) => bytes < (this.#buffers.get(id)?.buffer.bytes ?? 0));
  }

  /**
   * Whether tensors were frozen whose memory is part of a buffer that others need.
   * @internal
   */
  get hasGaps(): boolean {
    return this.#withGaps().length > 0;
  }

  /**
   * Moves tensors that lie beside frozen ones into smaller buffers, one buffer after the other, and returns the old ones.
   * @throws OutOfMemoryError where the driver has no memory for the next one; a later call continues there.
   * @internal
   */
  async closeGaps(): Promise<void> {
    const { device } = this.loaded.engine;
    const { pool, handle } = device;
    for (const [id, buffer] of this.#withGaps()) {
      const { buffer: old, lease: oldLease } = this.#buffers.get(id)!;
      const lease = await pool.checked("the state of the tensors that still learn", () =>
        pool.lease(buffer.bytes, "state"),
      );
      const encoder = handle.createCommandEncoder();
      for (const [key, { offset, bytes }] of buffer.tensors) {
        encoder.copyBufferToBuffer(oldLease.buffer, old.tensors.get(key)!.offset, lease.buffer, offset, bytes);
      }
      handle.queue.submit([encoder.finish()]);
      pool.return(oldLease);
      this.#hold(id, buffer, lease);
      // The driver must have freed the old buffer before it is asked for more.
      await device.wait(pool.flush());
    }
  }

  #frozenOf(names: Iterable<string> = []): ReadonlySet<string> {
    return new Set([...names].filter((name) => !this.#live.has(name)));
  }

  /** Tensors that have a gradient: the live ones, and frozen ones whose gradient is still computed. */
  get withGradient(): ReadonlySet<string> {
    return new Set([...this.#live.keys(), ...this.#stillComputed]);
  }

  /** GPU bytes of all tensors that it owns. */
  get bytes(): number {
    const buffers = new Set([...this.#tensors.values()].map(({ lease }) => lease.buffer));
    return [...buffers].reduce((sum, { size }) => sum + size, 0);
  }

  /** Copies a tensor to the host. */
  read(name: string): Promise<Float32Array> {
    return this.tensor(name).read();
  }

  /** A tensor by name: trainable, a companion of one, or a weight of the model. */
  tensor(name: string): Tensor {
    return (this.#tensors.get(name) ?? this.loaded.weights.get(this.#originals.get(name) ?? name))!;
  }

  /**
   * A tensor that the run owns and its companions, by name; empty for a weight of the model that the run does not train.
   * @internal
   */
  owned(name: string): ReadonlyMap<string, Tensor> {
    const names = [name, ...this.companions(name).map(({ key }) => key)];
    return new Map(
      names.flatMap((own) => {
        const tensor = this.#tensors.get(own);
        return tensor ? [[own, tensor] as const] : [];
      }),
    );
  }

  /**
   * Puts other tensors in the place of own ones that lie in no arena, which it disposes of. Their shapes are those that the
   * model gives them now.
   * @internal
   */
  replace(tensors: ReadonlyMap<string, Tensor>): void {
    for (const [name, tensor] of tensors) {
      this.#tensors.get(name)?.dispose();
      this.#return(name);
      this.#tensors.set(name, tensor);
    }
    this.#specs = trainableSpecs(this.loaded.model, this.adapter);
    this.#fixed = fixedSpecs(this.loaded.model, this.adapter);
    for (const name of this.#live.keys()) this.#live.set(name, this.#specs.get(name)!);
  }

  /** Number of host writes to frozen tensors. Whatever was computed from frozen tensors is void after each. */
  get overwrites(): number {
    return this.#overwrites;
  }

  /** Number of host writes to any tensor. */
  get writes(): number {
    return this.#writes;
  }

  /** Overwrites a tensor from the host. */
  write(name: string, data: Float32Array): void {
    this.#writes++;
    if (!this.#live.has(name)) this.#overwrites++;
    this.tensor(name).write(data);
  }

  /** @internal */
  lease(name: string): Memory {
    return this.tensor(firstOfSpan(name)).lease;
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
   * Overwrites trainable and fixed tensors with those of a saved adapter.
   * @throws ConfigError for a name that this run does not have, ShapeError for another size; nothing is then overwritten.
   */
  restore(tensors: ReadonlyMap<string, { readonly data: Float32Array }>): void {
    for (const [name, { data }] of tensors) {
      const spec = this.specs.get(name) ?? this.fixed.get(name);
      if (!spec) {
        throw new ConfigError(`${name} is not a tensor of this adapter.`, "Load it for the model it was trained on.");
      }
      if (data.length === elements(spec.shape)) continue;
      throw new ShapeError(
        `${name} has ${data.length} elements; in this adapter its shape is ${formatShape(spec.shape)}.`,
        "Load the model that the adapter was trained on, with the same rank and number of labels.",
      );
    }
    for (const [name, { data }] of tensors) this.write(name, data);
  }

  dispose(): void {
    for (const tensor of this.#tensors.values()) tensor.dispose();
    for (const id of this.#buffers.keys()) this.#return(id);
    this.#tensors.clear();
  }
}
