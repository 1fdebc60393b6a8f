import type { Adapter } from "../../adapter/adapter";
import { loraName } from "../../adapter/lora";
import { ConfigError } from "../../base/errors";
import type { Model } from "../../model/model";
import type { TrainerOptions } from "../options";

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
  if (policy?.kind === "structure_pruning") refuse(`${policy.name} masks what a LoRA is merged into`, "Leave it out.");
  if (policy?.kind === "layer_dropping") refuse(`${policy.name} leaves LoRAs out that were merged`, "Leave it out.");
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
