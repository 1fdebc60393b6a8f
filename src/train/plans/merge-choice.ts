import type { Adapter } from "../../adapter/adapter";
import { ConfigError } from "../../base/errors";
import type { Model } from "../../model/model";
import type { TrainerOptions } from "../options";

/** Formats in which a weight has the same bits after it was read and written back. */
const EXACT_FORMATS: readonly string[] = ["f32", "f16", "bf16"];
/** Kinds of adapters that are a change of each projection's weight alone, with the start of their tensors' names there. */
const MERGED_KINDS: Readonly<Record<string, string>> = {
  lora: "lora_",
  dora: "lora_",
  loha: "hada_",
  lokr: "lokr_",
  oft: "oft_",
};

/** The tensors that change each projection's weight, by its name, without a bias that learns beside them. */
export function mergedTensors(model: Model, adapter: Adapter): Map<string, string[]> {
  const names = adapter.tensors(model).map(({ name }) => name);
  const tensorsOf = (projection: string): string[] =>
    names.filter((tensor) => tensor.startsWith(`${projection}.${MERGED_KINDS[adapter.kind]}`));
  return new Map(model.projections.map(({ name }) => [name, tensorsOf(name)]));
}

/** @throws ConfigError for an adapter, a policy or a weight format with which LoRAs cannot be merged during a run. */
export function checkMergeOnFreeze({ adapter, policy, model: { model } }: TrainerOptions): void {
  const refuse = (fact: string, remedy = "Leave mergeOnFreeze out."): never => {
    throw new ConfigError(`mergeOnFreeze: ${fact}.`, remedy);
  };
  if (MERGED_KINDS[adapter.kind] === undefined) {
    refuse(
      `${adapter.kind} is not merged`,
      `Use an adapter of ${Object.keys(MERGED_KINDS).join(", ")}, or leave mergeOnFreeze out.`,
    );
  }
  if (policy?.kind === "structure_pruning") refuse(`${policy.name} masks what a LoRA is merged into`);
  if (policy?.kind === "layer_dropping") {
    refuse(`${policy.name} ${policy.adaptersAct ? "freezes nothing" : "leaves LoRAs out that were merged"}`);
  }
  const tensors = mergedTensors(model, adapter);
  const packed = model.parameters.find(
    ({ name, dtype = "f32" }) =>
      !EXACT_FORMATS.includes(dtype) && (tensors.get(name.replace(/\.weight$/, "")) ?? []).length > 0,
  );
  if (packed) {
    refuse(`${packed.name} is stored as ${packed.dtype}`, `Store weights as ${EXACT_FORMATS.join(", ")}.`);
  }
}

/** Says which LoRAs are merged into their projections: those of which all tensors have been frozen. */
export class MergeChoice {
  #initiallyLive: ReadonlySet<string> = new Set();
  readonly #kept = new Set<string>();
  readonly #tensors: ReadonlyMap<string, readonly string[]>;
  /** Whether LoRAs are merged at all. */
  isOn = true;

  constructor(
    model: Model,
    private readonly adapter: Adapter,
  ) {
    this.#tensors = mergedTensors(model, adapter);
  }

  /** Sets which tensors learn at the start of the run: a LoRA that never learns is not merged. */
  begin(live: Iterable<string>): void {
    this.#initiallyLive = new Set(live);
  }

  /** Keeps a projection's LoRA as it is, because its format cannot hold what they are together. */
  keep(module: string): void {
    this.#kept.add(module);
  }

  /** Names of the projections whose LoRA is merged while these tensors are live. */
  mergedWith(live: ReadonlySet<string>): ReadonlySet<string> {
    if (!this.isOn) return new Set();
    const isFrozen = (name: string): boolean => this.#initiallyLive.has(name) && !live.has(name);
    const merged = [...this.#tensors].filter(([, tensors]) => tensors.length > 0 && tensors.every(isFrozen));
    return new Set(merged.map(([name]) => name).filter((name) => !this.#kept.has(name)));
  }

  /** The adapter without the LoRAs of merged projections. */
  adapterWithout(merged: ReadonlySet<string>): Adapter {
    const { adapter } = this;
    if (merged.size === 0) return adapter;
    return {
      ...adapter,
      linear: (forward, site) => (merged.has(site.name) ? undefined : adapter.linear?.(forward, site)),
    };
  }
}
