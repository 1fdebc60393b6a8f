import type { Adapter } from "../../adapter/adapter";
import { loraName } from "../../adapter/lora";
import { withUpdate } from "../../adapter/merge";
import { ConfigError, DeviceError, DisposedError } from "../../base/errors";
import type { LoadedModel } from "../../io/load-model";
import { layerOf } from "../../model/model";
import type { Model } from "../../model/model";
import type { TrainerOptions } from "../options";
import type { TrainableTensors } from "../tensors/trainable-tensors";

/** Formats whose values survive being read and written again. */
const EXACT_FORMATS: readonly string[] = ["f32", "f16", "bf16"];

/**
 * Refuses what cannot be merged in the course of a run.
 * @throws ConfigError
 */
export function checkMergeOnFreeze({ adapter, policy, model: { model } }: TrainerOptions): void {
  const refuse = (fact: string, remedy: string): never => {
    throw new ConfigError(`mergeOnFreeze: ${fact}.`, remedy);
  };
  if (adapter.kind !== "lora") refuse(`${adapter.kind} is not merged`, "Use lora(), or leave it out.");
  if (policy?.structural) refuse(`${policy.name} masks what a LoRA is merged into`, "Leave it out.");
  if (policy?.dropped) refuse(`${policy.name} leaves LoRAs out that were merged`, "Leave it out.");
  const names = new Set(adapter.tensors(model).map(({ name }) => name));
  const packed = model.parameters.find(
    ({ name, dtype = "f32" }) =>
      !EXACT_FORMATS.includes(dtype) && names.has(loraName(name.replace(/\.weight$/, ""), "A")),
  );
  if (packed) {
    refuse(`${packed.name} is stored as ${packed.dtype}`, `Store weights as ${EXACT_FORMATS.join(", ")}.`);
  }
}

/** Which projections have their LoRA merged while some tensors are live: those of which no tensor learns any more. */
export class MergeChoice {
  #learnt: ReadonlySet<string> = new Set();
  /** Whether there is merging at all. */
  isOn = true;

  constructor(
    private readonly model: Model,
    private readonly adapter: Adapter,
  ) {}

  /** Says which tensors learn at the beginning: what never does is not merged. */
  begin(live: Iterable<string>): void {
    this.#learnt = new Set(live);
  }

  /** Names of projections. */
  of(live: ReadonlySet<string>): ReadonlySet<string> {
    if (!this.isOn) return new Set();
    const isFrozen = (name: string): boolean => this.#learnt.has(name) && !live.has(name);
    const names = this.model.projections.map(({ name }) => name);
    return new Set(names.filter((name) => isFrozen(loraName(name, "A")) && isFrozen(loraName(name, "B"))));
  }

  /** The adapter as it acts beside merged weights. */
  adapterWith(merged: ReadonlySet<string>): Adapter {
    const { adapter } = this;
    if (merged.size === 0) return adapter;
    return {
      ...adapter,
      linear: (forward, site) => (merged.has(site.name) ? undefined : adapter.linear?.(forward, site)),
    };
  }
}

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
    return [...this.#originals.keys()].filter((name) => (layerOf(name) ?? Infinity) < layer).length;
  }

  /** The adapter as it acts now. */
  get acting(): Adapter {
    return this.choice.adapterWith(new Set([...this.#originals.keys()].map(moduleOf)));
  }

  /** Merges what is frozen, anew where a frozen tensor was overwritten. */
  async follow(): Promise<void> {
    const { overwrites, live } = this.state;
    if (this.#overwrites !== overwrites) this.#restore();
    this.#overwrites = overwrites;
    const missing = [...this.choice.of(new Set(live.keys()))].filter((name) => !this.#originals.has(weightOf(name)));
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
      const data = (await weight.read()) as Float32Array;
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
