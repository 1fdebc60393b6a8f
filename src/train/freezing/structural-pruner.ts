import type { Adapter } from "../../adapter/adapter";
import { outputMaskName, withOutputMasks } from "../../adapter/masked";
import { ConfigError, FileFormatError } from "../../base/errors";
import type { Progress, StructurePruningPolicy, StructurePruningPolicyState } from "../../freeze/policy";
import type { Model } from "../../model/model";
import type { Span, Structure } from "../../model/structure";
import type { Limits } from "../../op/limits";
import type { Executor } from "../../run/executor";
import type { Plan } from "../../tape/plan";
import type { TrainerOptions } from "../options";
import { groupImportance, importanceName, importancePlan, prunableStructures } from "../plans/importance-plan";
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
  #plan: Plan | undefined;

  constructor(
    private readonly pruning: {
      readonly policy: StructurePruningPolicy;
      readonly state: StructurePruningPolicyState;
    },
    private readonly state: TrainableTensors,
    private readonly parts: { readonly model: Model; readonly adapter: Adapter; readonly limits: Limits },
  ) {
    this.#judged = prunableStructures(parts.model, pruning.policy).map((structure) => {
      return { structure, scores: new Float64Array(structure.groups), out: new Set() };
    });
    this.rebuild();
  }

  get plans(): readonly Plan[] {
    return this.#plan ? [this.#plan] : [];
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

  /** Plans for the live set as it is now. */
  rebuild(): void {
    const structures = this.#judged.map(({ structure }) => structure);
    this.#plan = importancePlan({ ...this.parts, structures }, this.state.live, this.parts.limits);
  }

  /** Brings every group's importance up to date, from the gradients as they are now (LoRAPrune). */
  async follow(executor: Executor): Promise<void> {
    if (!this.#plan) return;
    const { smoothing } = this.pruning.policy;
    const found = await executor.run(this.#plan, this.state, {});
    for (const { structure, scores } of this.#judged) {
      const now = groupImportance(structure, (projection, of) => found.get(importanceName(projection, of)));
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
