import { outputMaskName, withOutputMasks } from "../../adapter/masked";
import { ConfigError, FileFormatError } from "../../base/errors";
import type { Progress, StructurePruningPolicy, StructurePruningPolicyState } from "../../freeze/policy";
import type { Span, Structure } from "../../model/structure";
import type { TrainerOptions } from "../options";
import { groupImportance, importanceName, prunableStructures } from "../plans/importance-plan";
import type { TrainableTensors } from "../tensors/trainable-tensors";

/**
 * Options of a run whose policy prunes structures: the adapter gets masks of the projections that make them.
 * @throws ConfigError for an adapter that is no LoRA, or a model too small to prune.
 */
export function withStructuralMasks(options: TrainerOptions): TrainerOptions {
  const { policy, adapter, model: loaded } = options;
  if (policy?.kind !== "structure_pruning") return options;
  if (adapter.kind !== "lora") {
    throw new ConfigError(`${policy.name} judges by LoRA's gradients; this adapter is ${adapter.kind}.`, "Use lora().");
  }
  if (loaded.model.parameters.some(({ dtype = "f32" }) => dtype !== "f32")) {
    throw new ConfigError(`${policy.name} reads the weights as f32.`, "Load the model without a weight format.");
  }
  const structures = prunableStructures(loaded.model, policy);
  if (structures.length === 0) {
    throw new ConfigError(
      `${policy.name} leaves the outer layers whole; this model has only ${loaded.model.layers}.`,
      "Use a deeper model.",
    );
  }
  const masked = structures.flatMap(({ outputs }) => outputs.map(({ projection }) => projection));
  return { ...options, adapter: withOutputMasks(adapter, masked) };
}

export type SavedPruner = readonly {
  readonly scores: readonly (number | null)[];
  readonly out: readonly number[];
}[];

interface Judged {
  readonly structure: Structure;
  readonly scores: Float64Array;
  out: ReadonlySet<number>;
}

/** What a policy of structural pruning follows in one run, and has taken out. */
export class StructuralPruner {
  readonly #judged: readonly Judged[];

  constructor(
    private readonly pruning: {
      readonly policy: StructurePruningPolicy;
      readonly state: StructurePruningPolicyState;
    },
    private readonly state: TrainableTensors,
    structures: readonly Structure[],
  ) {
    this.#judged = structures.map((structure) => {
      return { structure, scores: new Float64Array(structure.groups), out: new Set() };
    });
  }

  /** Every structure's importance and what is out of it, plain JSON; a score that is no number becomes null. */
  save(): SavedPruner {
    return this.#judged.map(({ scores, out }) => ({ scores: [...scores], out: [...out] }));
  }

  /** Goes on where `save` was called; the masks themselves are tensors. @throws FileFormatError for another model's. */
  restore(saved: SavedPruner): void {
    const fits = saved.length === this.#judged.length;
    if (!fits || !this.#judged.every(({ scores }, i) => scores.length === saved[i]?.scores.length)) {
      throw new FileFormatError("The checkpoint's heads and neurons are not this model's.", "Resume from another one.");
    }
    for (const [i, judged] of this.#judged.entries()) {
      const { scores, out } = saved[i]!;
      judged.scores.set(scores.map((score) => score ?? NaN));
      judged.out = new Set(out);
    }
  }

  /**
   * Brings every group's running importance up to date (LoRAPrune).
   * @param outputs of the importance plan, for the gradients of the step.
   */
  addStep(outputs: ReadonlyMap<string, Float32Array>): void {
    const { smoothing } = this.pruning.policy;
    for (const { structure, scores } of this.#judged) {
      const now = groupImportance(structure, (projection, of) => outputs.get(importanceName(projection, of)));
      scores.forEach((old, group) => {
        scores[group] = smoothing * old + (1 - smoothing) * now[group]!;
      });
    }
  }

  /** Asks the policy, where it is due, and masks what it takes out. */
  async prune(progress: Progress): Promise<void> {
    if (!this.pruning.state.isDue(progress)) return;
    const chosen = this.pruning.state.choose(progress, this.#judged);
    for (const [i, judged] of this.#judged.entries()) {
      judged.out = chosen[i] ?? judged.out;
      for (const span of judged.structure.outputs) await this.#mask(span, judged.out);
    }
  }

  async #mask({ projection, offset, size }: Span, out: ReadonlySet<number>): Promise<void> {
    if (out.size === 0) return;
    const mask = this.state.tensor(outputMaskName(projection));
    const values = await mask.read();
    for (const group of out) values.fill(0, offset + group * size, offset + (group + 1) * size);
    mask.write(values);
  }
}
