import type { Tensors } from "../../adapter/adapter";
import { DeviceError, DisposedError } from "../../base/errors";
import type { LoadedModel } from "../../io/load-model";
import type { FloatTensor } from "../../io/safetensors";
import { structureKey, withGroups } from "../../model/resize";
import type { Structure } from "../../model/structure";
import { Tensor } from "../../tensor";
import type { PlanBook } from "../plans/plan-book";
import type { PlannedModel } from "../plans/planned-model";
import { gather, scatter, structureSlices } from "../tensors/slices";
import type { TrainableTensors } from "../tensors/trainable-tensors";
import type { PrunedStructure, StructuralPruner } from "./structural-pruner";

/** What a compaction changes. */
export interface CompactionParts {
  readonly loaded: LoadedModel;
  readonly state: TrainableTensors;
  readonly planned: PlannedModel;
  readonly book: PlanBook;
  readonly pruner: StructuralPruner;
}

/**
 * Cuts heads and neurons that are masked out of the tensors of a run, so that their memory is given back: rows and columns of
 * the model's weights and biases, of LoRA's A and B with gradients and moments, and of the masks. A masked head attends to
 * values 0 and a masked neuron is 0, so that nothing reads what is cut, and the model computes the same without it.
 *
 * The weights of the loaded model are replaced by smaller ones until the run ends, since a copy in addition would need more
 * memory than was accepted. Their original values wait in host memory, and `restore` puts them back.
 */
export class Compaction {
  readonly #originals = new Map<string, Float32Array>();

  constructor(private readonly parts: CompactionParts) {}

  /** Bytes of host memory that the original weights take. */
  get bytes(): number {
    return [...this.#originals.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  /** Original values of the weights that were replaced, by name. */
  get originals(): ReadonlyMap<string, Float32Array> {
    return this.#originals;
  }

  /** Heads' groups and neurons that are cut, and the bytes of host memory that their weights' originals take. */
  get counts(): { readonly heads: number; readonly neurons: number; readonly hostBytes: number } {
    const cut = (kind: Structure["kind"]): number =>
      this.parts.pruner.structures
        .filter(({ structure }) => structure.kind === kind)
        .reduce((sum, { structure, kept }) => sum + structure.groups - kept.length, 0);
    return { heads: cut("heads"), neurons: cut("neurons"), hostBytes: this.bytes };
  }

  /**
   * Plans the steps of the model that the pruner's choice makes.
   * @throws MemoryBudgetError, with everything as it was, where its steps do not fit into the budget: smaller buffers may be
   * packed less well.
   */
  plan(): void {
    const { planned, book, pruner, loaded } = this.parts;
    const before = planned.model;
    planned.model = withGroups(loaded.completeModel, groupCounts(pruner.structures, "remaining"));
    try {
      book.replan();
    } catch (error) {
      planned.model = before;
      throw error;
    }
  }

  /**
   * Cuts what `plan` has planned, one structure after the other. The run is whole after each of them, so that a later call
   * continues where memory ran out. No plan may be held.
   * @throws OutOfMemoryError
   */
  async run(): Promise<void> {
    for (const pruned of this.parts.pruner.structures) {
      if (pruned.remaining.length < pruned.kept.length) await this.#cut(pruned);
    }
  }

  async #cut(pruned: PrunedStructure): Promise<void> {
    const { loaded, state, pruner } = this.parts;
    const { device } = loaded.engine;
    const remaining = new Set(pruned.remaining);
    const keptGroups = [...pruned.kept.keys()].filter((i) => remaining.has(pruned.kept[i]!));
    const slices = structureSlices(loaded.model, pruner.current(pruned), keptGroups);
    const [weights, own] = [new Map<string, FloatTensor>(), new Map<string, FloatTensor>()];
    for (const [name, slice] of slices) {
      const weight = loaded.weights.get(name);
      if (weight) {
        const data = await weight.read();
        if (!this.#originals.has(name)) this.#originals.set(name, data);
        weights.set(name, gather({ shape: weight.shape, data }, slice));
      }
      for (const [key, { shape }] of state.owned(name))
        own.set(key, gather({ shape, data: await state.read(key) }, slice));
    }
    const [newWeights, newOwn] = await device.pool.checked("the smaller tensors of a pruned layer", () => [
      new Map([...weights].map(([name, { shape }]) => [name, new Tensor(device, shape, "f32", "weight")])),
      new Map([...own].map(([name, { shape }]) => [name, new Tensor(device, shape, "f32", "state")])),
    ]);
    for (const [name, { data }] of weights) newWeights.get(name)!.write(data);
    for (const [name, { data }] of own) newOwn.get(name)!.write(data);
    pruner.markCut(pruned);
    loaded.replace(withGroups(loaded.completeModel, groupCounts(pruner.structures, "kept")), newWeights);
    state.replace(newOwn);
    // The driver must have freed the old tensors before it is asked for more.
    await device.wait(device.pool.flush());
  }

  /**
   * Tensors of the run in the shapes of the complete model. What was cut is 0; so the masks say that it is out.
   * @param tensors by name, as a snapshot holds them.
   */
  complete(tensors: Tensors): Tensors {
    const { loaded, pruner } = this.parts;
    const completed = new Map(tensors);
    for (const { structure, kept } of pruner.structures) {
      if (kept.length === structure.groups) continue;
      for (const [name, slice] of structureSlices(loaded.completeModel, structure, kept)) {
        const tensor = tensors.get(name);
        if (tensor) completed.set(name, scatter(tensor, slice));
      }
    }
    return completed;
  }

  /** Puts the original weights back, unless the model was disposed of or its device was lost. The run must be over. */
  restore(): void {
    const { loaded } = this.parts;
    if (!loaded.isCut) return;
    const { device } = loaded.engine;
    const shapes = new Map(loaded.completeModel.parameters.map(({ name, shape }) => [name, shape]));
    try {
      for (const [name, data] of loaded.isDisposed ? [] : this.#originals) {
        const tensor = Tensor.from(device, data, shapes.get(name)!, "weight");
        loaded.replace(loaded.completeModel, new Map([[name, tensor]]));
      }
    } catch (error) {
      if (!(error instanceof DisposedError || error instanceof DeviceError)) throw error;
    }
    loaded.replace(loaded.completeModel, new Map());
    this.#originals.clear();
  }
}

/** Number of groups of each structure, by `structureKey`. */
function groupCounts(structures: readonly PrunedStructure[], which: "kept" | "remaining"): ReadonlyMap<string, number> {
  return new Map(structures.map((pruned) => [structureKey(pruned.structure), pruned[which].length]));
}
