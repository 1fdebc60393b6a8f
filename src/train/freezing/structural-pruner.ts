import { outputMaskName, withOutputMasks } from "../../adapter/masked";
import { ConfigError, FileFormatError } from "../../base/errors";
import type { GroupScores, Progress, StructurePruningPolicy, StructurePruningPolicyState } from "../../freeze/policy";
import type { Span, Structure } from "../../model/structure";
import type { TrainerOptions } from "../options";
import { groupImportance, importanceName, prunableStructures } from "../plans/importance-plan";
import type { TrainableTensors } from "../tensors/trainable-tensors";

/**
 * The options of a run, with an adapter that masks the outputs of prunable structures where the policy prunes structures.
 * @throws ConfigError for an adapter other than LoRA, packed weights, or a model with too few layers.
 */
export function withStructuralMasks(options: TrainerOptions): TrainerOptions {
  const { policy, adapter, model: loaded } = options;
  if (policy?.kind !== "structure_pruning") return options;
  if (adapter.kind !== "lora") {
    throw new ConfigError(
      `${policy.name} needs the gradients of LoRA; this adapter is ${adapter.kind}.`,
      "Use lora().",
    );
  }
  if (loaded.model.parameters.some(({ dtype = "f32" }) => dtype !== "f32")) {
    throw new ConfigError(`${policy.name} reads the weights as f32.`, "Load the model without a weight format.");
  }
  const structures = prunableStructures(loaded.model, policy);
  if (structures.length === 0) {
    throw new ConfigError(
      `${policy.name} does not prune the outer layers; this model has only ${loaded.model.layers} layers.`,
      "Use a model with more layers.",
    );
  }
  const masked = structures.flatMap(({ outputs }) => outputs.map(({ projection }) => projection));
  return { ...options, adapter: withOutputMasks(adapter, masked) };
}

/** Importance and removed groups of every structure, as plain JSON; a score that is not finite is null. */
export type SavedPruner = readonly {
  readonly scores: readonly (number | null)[];
  readonly out: readonly number[];
}[];

/** A prunable structure with the running importance of its groups, and those that are removed. */
interface ScoredStructure extends GroupScores {
  out: ReadonlySet<number>;
}

/** Structural pruning in one run: the running importance of every group, and which groups are removed. */
export class StructuralPruner {
  readonly #structures: readonly ScoredStructure[];

  constructor(
    private readonly pruning: {
      readonly policy: StructurePruningPolicy;
      readonly state: StructurePruningPolicyState;
    },
    private readonly state: TrainableTensors,
    structures: readonly Structure[],
  ) {
    this.#structures = structures.map((structure) => {
      return { structure, scores: new Float64Array(structure.groups), out: new Set() };
    });
  }

  save(): SavedPruner {
    return this.#structures.map(({ scores, out }) => ({ scores: [...scores], out: [...out] }));
  }

  /** Continues from what `save` returned; the masks themselves are tensors. @throws FileFormatError for another model. */
  restore(saved: SavedPruner): void {
    const hasSameSize = saved.length === this.#structures.length;
    if (!hasSameSize || !this.#structures.every(({ scores }, i) => scores.length === saved[i]?.scores.length)) {
      throw new FileFormatError(
        "The heads and neurons in the checkpoint are not those of this model.",
        "Resume from another checkpoint.",
      );
    }
    for (const [i, structure] of this.#structures.entries()) {
      const { scores, out } = saved[i]!;
      structure.scores.set(scores.map((score) => score ?? NaN));
      structure.out = new Set(out);
    }
  }

  /**
   * Adds the importance in a step's gradients to every group's running importance.
   * @param outputs of the importance plan.
   */
  addStep(outputs: ReadonlyMap<string, Float32Array>): void {
    const { smoothing } = this.pruning.policy;
    for (const { structure, scores } of this.#structures) {
      const current = groupImportance(structure, (projection, side) => outputs.get(importanceName(projection, side)));
      scores.forEach((score, group) => {
        scores[group] = smoothing * score + (1 - smoothing) * current[group]!;
      });
    }
  }

  /** Lets the policy choose, where it is due, and masks the groups that it removes. */
  async prune(progress: Progress): Promise<void> {
    if (!this.pruning.state.isDue(progress)) return;
    const chosen = this.pruning.state.choose(progress, this.#structures);
    for (const [i, structure] of this.#structures.entries()) {
      structure.out = chosen[i] ?? structure.out;
      for (const span of structure.structure.outputs) await this.#mask(span, structure.out);
    }
  }

  /** Sets the mask of a projection's outputs to 0 for groups that are out. */
  async #mask({ projection, offset, size }: Span, out: ReadonlySet<number>): Promise<void> {
    if (out.size === 0) return;
    const mask = this.state.tensor(outputMaskName(projection));
    const values = await mask.read();
    for (const group of out) values.fill(0, offset + group * size, offset + (group + 1) * size);
    mask.write(values);
  }
}
