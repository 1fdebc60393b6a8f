import type { Adapter } from "../../adapter/adapter";
import { withUpdate } from "../../adapter/low-rank";
import { DeviceError, DisposedError } from "../../base/errors";
import { OVERFLOW } from "../../base/packed";
import type { LoadedModel } from "../../io/load-model";
import type { MergeChoice } from "../plans/merge-choice";
import type { TrainableTensors } from "../tensors/trainable-tensors";

/**
 * Merges frozen LoRAs into the weights of their projections, so that their low-rank products need not run. The original
 * weights are kept in host memory, since subtracting an update would not restore their exact bits. The loaded model is
 * therefore changed until `unmerge`; the tensors of the adapter stay as they are. A weight in 16 bits that could not hold the sum
 * keeps its LoRA.
 */
export class Merging {
  readonly #originals = new Map<string, Float32Array>();
  #overwrites = 0;

  constructor(
    readonly choice: MergeChoice,
    private readonly loaded: LoadedModel,
    private readonly adapter: Adapter,
    private readonly state: TrainableTensors,
  ) {}

  /** Original values of merged weights, by the weight's name. */
  get originals(): ReadonlyMap<string, Float32Array> {
    return this.#originals;
  }

  /** Bytes of host memory that the original values take. */
  get bytes(): number {
    return [...this.#originals.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  /** Number of merged projections in the layers below a layer. */
  below(layer: number): number {
    const { projections } = this.loaded.model;
    return projections.filter((projection) => {
      const isBelow = typeof projection.layer === "number" && projection.layer < layer;
      return isBelow && this.#originals.has(weightOf(projection.name));
    }).length;
  }

  /** The adapter without merged LoRAs: what still has to run. */
  get unmergedAdapter(): Adapter {
    return this.choice.adapterWithout(new Set([...this.#originals.keys()].map(moduleOf)));
  }

  /** Merges LoRAs that are frozen and not merged yet, and all of them again where a frozen tensor was overwritten. */
  async mergeFrozen(): Promise<void> {
    const { overwrites, withGradient } = this.state;
    if (this.#overwrites !== overwrites) this.#restore();
    this.#overwrites = overwrites;
    const missing = [...this.choice.mergedWith(withGradient)].filter((name) => !this.#originals.has(weightOf(name)));
    if (missing.length > 0) await this.#merge(missing);
  }

  async #merge(modules: readonly string[]): Promise<void> {
    const { model, weights } = this.loaded;
    const tensors = await this.state.snapshot();
    const { adapter } = this;
    const updates = adapter.updates?.(model, tensors);
    const layouts = new Map(model.projections.map(({ name, layout }) => [name, layout]));
    for (const module of modules) {
      const name = weightOf(module);
      const update = updates?.get(module);
      const weight = weights.get(name);
      if (!weight) throw new Error(`${module} has no weight to merge into.`);
      const data = await weight.read();
      const value = { shape: weight.shape, data };
      const merged = update
        ? withUpdate(value, update, layouts.get(module) === "in_out")
        : adapter.merged!(model, tensors, name, value);
      const { dtype } = weight;
      const limit = dtype === "f16" || dtype === "bf16" ? OVERFLOW[dtype] : Infinity;
      if (merged.data.some((element) => Math.abs(element) >= limit)) {
        this.choice.keep(module);
        continue;
      }
      this.#originals.set(name, data);
      weight.fillRows(0, merged.data);
    }
  }

  /** Restores the exact bits of every weight, and merges no more. */
  unmerge(): void {
    this.choice.isOn = false;
    this.#restore();
  }

  #restore(): void {
    for (const [name, data] of this.#originals) this.loaded.weights.get(name)!.fillRows(0, data);
    this.#originals.clear();
  }

  /** Runs something on the model as it was loaded, with nothing merged. */
  async unmerged<T>(body: () => Promise<T>): Promise<T> {
    this.#restore();
    try {
      return await body();
    } finally {
      await this.mergeFrozen();
    }
  }

  /** Restores the loaded model, unless it was disposed of or its device was lost. */
  dispose(): void {
    try {
      this.unmerge();
    } catch (error) {
      if (!(error instanceof DisposedError || error instanceof DeviceError)) throw error;
    }
  }
}

const weightOf = (module: string): string => `${module}.weight`;
const moduleOf = (weight: string): string => weight.replace(/\.weight$/, "");
