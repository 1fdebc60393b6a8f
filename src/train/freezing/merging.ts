import type { Adapter } from "../../adapter/adapter";
import { withUpdate } from "../../adapter/low-rank";
import { DeviceError, DisposedError } from "../../base/errors";
import type { LoadedModel } from "../../io/load-model";
import type { MergeChoice } from "../plans/merge-choice";
import type { TrainableTensors } from "../tensors/trainable-tensors";

/**
 * Adds frozen LoRAs to the weights that they belong to, so that their low-rank products need not run. The weight as it was
 * stays on the host: what is subtracted again would have other bits. The loaded model is therefore another one until
 * `unmerge`; the adapter's own tensors stay as they are.
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

  /** Values that merged weights had, by the weight's name. */
  get originals(): ReadonlyMap<string, Float32Array> {
    return this.#originals;
  }

  /** Bytes of them on the host. */
  get bytes(): number {
    return [...this.#originals.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  /** How many projections are merged in the layers below one. */
  below(layer: number): number {
    const { projections } = this.loaded.model;
    return projections.filter((projection) => {
      return (projection.layer ?? Infinity) < layer && this.#originals.has(weightOf(projection.name));
    }).length;
  }

  /** The adapter as it acts now. */
  get acting(): Adapter {
    return this.choice.adapterWithout(new Set([...this.#originals.keys()].map(moduleOf)));
  }

  /** Merges what is frozen, anew where a frozen tensor was overwritten. */
  async follow(): Promise<void> {
    const { overwrites, withGradient } = this.state;
    if (this.#overwrites !== overwrites) this.#restore();
    this.#overwrites = overwrites;
    const missing = [...this.choice.mergedWith(withGradient)].filter((name) => !this.#originals.has(weightOf(name)));
    if (missing.length > 0) await this.#merge(missing);
  }

  async #merge(modules: readonly string[]): Promise<void> {
    const { model, weights } = this.loaded;
    const tensors = await this.state.snapshot();
    const updates = this.adapter.updates?.(model, tensors);
    const layouts = new Map(model.projections.map(({ name, layout }) => [name, layout]));
    for (const module of modules) {
      const update = updates?.get(module);
      const weight = weights.get(weightOf(module));
      if (!update || !weight) throw new Error(`${module} has no LoRA to merge.`);
      const data = await weight.read();
      const merged = withUpdate({ shape: weight.shape, data }, update, layouts.get(module) === "in_out");
      this.#originals.set(weightOf(module), data);
      weight.fillRows(0, merged.data);
    }
  }

  /** Gives every weight its very bits back, and merges no more. */
  unmerge(): void {
    this.choice.isOn = false;
    this.#restore();
  }

  #restore(): void {
    for (const [name, data] of this.#originals) this.loaded.weights.get(name)!.fillRows(0, data);
    this.#originals.clear();
  }

  /** Runs something on the model as it was loaded, with nothing merged. */
  async apart<T>(body: () => Promise<T>): Promise<T> {
    this.#restore();
    try {
      return await body();
    } finally {
      await this.follow();
    }
  }

  /** The loaded model as it was, where it still exists. */
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
