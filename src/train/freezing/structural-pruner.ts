import { outputMaskName, withOutputMasks } from "../../adapter/masked";
import { ConfigError, FileFormatError } from "../../base/errors";
import type { GroupScores, Progress, StructurePruningPolicy, StructurePruningPolicyState } from "../../freeze/policy";
import type { LoadedModel } from "../../io/load-model";
import { structureKey } from "../../model/resize";
import type { Span, Structure } from "../../model/structure";
import type { TrainerOptions } from "../options";
import { groupImportance, importanceName, prunableStructures } from "../plans/importance-plan";
import type { TrainableTensors } from "../tensors/trainable-tensors";

/**
 * The options of a run, with an adapter that masks the outputs of prunable structures where the policy prunes structures.
 * @throws ConfigError for an adapter other than LoRA, packed weights, or a model with too few layers.
 */
export function withStructuralMasks(options: TrainerOptions, policy: StructurePruningPolicy): TrainerOptions {
  const { adapter, model: loaded } = options;
  if (adapter.kind !== "lora" || adapter.portableFile) {
    throw new ConfigError(
      `${policy.name} needs the gradients of LoRA; this adapter is ${adapter.kind}${adapter.portableFile ? " with PiSSA or OLoRA" : ""}.`,
      "Use lora() without init.",
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

/** Importance, removed and cut groups of every structure, as plain JSON; a score that is not finite is null. */
export type SavedPruner = readonly {
  readonly scores: readonly (number | null)[];
  readonly out: readonly number[];
  /** Those that are out and no longer in the tensors. */
  readonly cut: readonly number[];
}[];

/** Neurons are cut in multiples of this: the kernels' tiles are as wide, so that fewer would save little. */
const NEURONS_PER_CUT = 64;

/**
 * A prunable structure with the running importance of its groups, and what is out. Groups have the numbers that they have in
 * the structure as it was loaded; the tensors hold those that are `kept`.
 */
export interface PrunedStructure extends GroupScores {
  /** Groups that are in the tensors, ascending. */
  readonly kept: readonly number[];
  /** Groups that shall be in them after the next compaction, ascending: some of `kept`. */
  readonly remaining: readonly number[];
}

/** Structural pruning in one run: the running importance of every group, and which groups are masked or cut. */
export class StructuralPruner {
  #structures: readonly PrunedStructure[];

  constructor(
    private readonly pruning: {
      readonly policy: StructurePruningPolicy;
      readonly state: StructurePruningPolicyState;
    },
    private readonly loaded: Pick<LoadedModel, "model">,
    private readonly state: TrainableTensors,
  ) {
    this.#structures = prunableStructures(loaded.model, pruning.policy).map((structure) => {
      const kept = Array.from({ length: structure.groups }, (_, group) => group);
      return { structure, scores: new Float64Array(structure.groups), out: new Set(), kept, remaining: kept };
    });
  }

  get structures(): readonly PrunedStructure[] {
    return this.#structures;
  }

  /** A structure as it is in the tensors. */
  current({ structure }: PrunedStructure): Structure {
    const { kind, layer } = structure;
    return this.loaded.model.structures(layer).find((current) => current.kind === kind)!;
  }

  save(): SavedPruner {
    return this.#structures.map(({ structure, scores, out, kept }) => {
      const inTensors = new Set(kept);
      const cut = Array.from({ length: structure.groups }, (_, group) => group).filter(
        (group) => !inTensors.has(group),
      );
      return { scores: [...scores], out: [...out], cut };
    });
  }

  /**
   * Continues from what `save` returned. What was cut shall be cut by the next compaction; the masks are tensors.
   * @throws FileFormatError for another model.
   */
  restore(saved: SavedPruner): void {
    const isSame = ({ structure }: PrunedStructure, i: number): boolean => {
      const { scores = [], out = [], cut = [] } = saved[i] ?? {};
      const isCutOut = out.length < structure.groups && cut.every((group) => out.includes(group));
      return scores.length === structure.groups && isCutOut && out.every((group) => group < structure.groups);
    };
    if (saved.length !== this.#structures.length || !this.#structures.every(isSame)) {
      throw new FileFormatError(
        "The heads and neurons in the checkpoint are not those of this model.",
        "Resume from another checkpoint.",
      );
    }
    this.#structures = this.#structures.map(({ structure, kept }, i) => {
      const { scores, out, cut } = saved[i]!;
      const numbers = Float64Array.from(scores, (score) => score ?? NaN);
      return { structure, scores: numbers, out: new Set(out), kept, remaining: without(kept, cut) };
    });
  }

  /**
   * Adds the importance in a step's gradients to every group's running importance. One that is not a number adds nothing.
   * @param outputs of the importance plan.
   */
  addStep(outputs: ReadonlyMap<string, Float32Array>): void {
    const { smoothing } = this.pruning.policy;
    for (const structure of this.#structures) {
      const { scores, kept, out } = structure;
      const find = (projection: string, side: "out" | "in") => outputs.get(importanceName(projection, side));
      const masked = new Set([...kept.keys()].filter((i) => out.has(kept[i]!)));
      const current = groupImportance(this.current(structure), find, masked);
      kept.forEach((group, i) => {
        const next = smoothing * scores[group]! + (1 - smoothing) * current[i]!;
        if (!Number.isNaN(next)) scores[group] = next;
      });
    }
  }

  /** Lets the policy choose, where it is due, and masks the groups that it removes. */
  async prune(progress: Progress): Promise<void> {
    if (!this.pruning.state.isDue(progress)) return;
    const chosen = this.pruning.state.choose(progress, this.#structures);
    this.#structures = this.#structures.map((structure, i) => ({ ...structure, out: chosen[i] ?? structure.out }));
    for (const structure of this.#structures) {
      for (const span of this.current(structure).outputs) await this.#mask(span, structure);
    }
  }

  /** Sets the mask of a projection's outputs to 0 for groups that are out. */
  async #mask({ projection, offset, size }: Span, { kept, out }: PrunedStructure): Promise<void> {
    if (out.size === 0) return;
    const mask = this.state.tensor(outputMaskName(projection));
    const values = await mask.read();
    kept.forEach((group, i) => {
      if (out.has(group)) values.fill(0, offset + i * size, offset + (i + 1) * size);
    });
    mask.write(values);
  }

  /**
   * Chooses what the next compaction cuts, where the policy has one due: heads that are out, and neurons that are out in
   * multiples of 64. Returns whether that is anything.
   */
  chooseCuts(progress: Progress): boolean {
    if (this.pruning.state.isCompactionDue?.(progress) !== true) return false;
    this.#structures = this.#structures.map((pruned) => {
      const waiting = pruned.kept.filter((group) => pruned.out.has(group));
      const unit = pruned.structure.kind === "neurons" ? NEURONS_PER_CUT : 1;
      const cut = waiting.slice(0, Math.floor(waiting.length / unit) * unit);
      return { ...pruned, remaining: without(pruned.kept, cut) };
    });
    return this.#structures.some(({ kept, remaining }) => remaining.length < kept.length);
  }

  /** Records that the tensors of a structure hold only what shall remain of it. */
  markCut({ structure }: PrunedStructure): void {
    const key = structureKey(structure);
    this.#structures = this.#structures.map((pruned) =>
      structureKey(pruned.structure) === key ? { ...pruned, kept: pruned.remaining } : pruned,
    );
  }
}

function without(groups: readonly number[], removed: readonly number[]): number[] {
  const set = new Set(removed);
  return groups.filter((group) => !set.has(group));
}
