import type { Optimizer } from "./optimizer";
import type { TensorGroup } from "./settings";

/** The updates that each group of tensors has had: the t of Adam's formulas. */
export class UpdateCounts {
  readonly #counts = new Map<string, number>();

  /** Updates by group, for checkpoints. Plain JSON. */
  save(): (readonly [group: string, updates: number])[] {
    return [...this.#counts];
  }

  /** Continues from what `save` returned. */
  restore(counts: ReturnType<UpdateCounts["save"]>): void {
    this.#counts.clear();
    for (const [group, updates] of counts) this.#counts.set(group, updates);
  }

  /** The inputs of the next update. @param scheduleFactor of every group's learning rate. */
  inputs(
    optimizer: Optimizer,
    groups: ReadonlyMap<string, TensorGroup>,
    scheduleFactor = 1,
  ): Readonly<Record<string, Float32Array>> {
    return Object.fromEntries(
      [...groups].map(([input, group]) => {
        const learningRate = group.learningRate * scheduleFactor;
        return [input, optimizer.hyper({ learningRate, step: this.#of(input) + 1 })];
      }),
    );
  }

  /** Counts an update that was applied. */
  count(groups: ReadonlyMap<string, TensorGroup>): void {
    for (const group of groups.keys()) this.#counts.set(group, this.#of(group) + 1);
  }

  #of(group: string): number {
    return this.#counts.get(group) ?? 0;
  }
}
