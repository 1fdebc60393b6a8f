import type { Emitter, Locations } from "./emit";
import { emitSteps } from "./forward";
import type { Packing } from "./packing";
import { mainOutput } from "./reach";
import { forwardValue } from "./saves";
import type { BackwardTask, Keeper } from "./saves";
import { forwardStep, inOrder, readBy } from "./steps";
import type { Step } from "./steps";
import type { Node, Tape } from "./tape";

/** A section of the tape that runs again in the backward pass, right before its gradients. */
export interface RecomputedSection {
  readonly name: string;
  /** What runs, in this order: the section's nodes, and the inverses that give back what entered it. */
  readonly steps: readonly Step[];
  /** Ids of the values that the steps compute for gradients and for other sections. */
  readonly values: ReadonlySet<number>;
  /** Ids of the values from outside that the steps read. */
  readonly from: ReadonlySet<number>;
}

/** Which values are kept for the backward pass, and which sections are recomputed. */
export interface Recomputation {
  /** Kept values by id, with the reasons to keep them. */
  readonly kept: ReadonlyMap<number, readonly Keeper[]>;
  readonly sections: ReadonlyMap<string, RecomputedSection>;
}

export interface RecomputationChoice {
  /** Names of sections to recompute, in addition to the parts of reversible layers. */
  readonly chosen: ReadonlySet<string>;
  /** What to rebuild: value id -> id of the node whose inverse gives it. */
  readonly rebuilds: ReadonlyMap<number, number>;
}

/** Name of the section with which a node is recomputed: a part of a reversible layer, or the outermost chosen section. */
const sectionOf = ({ sections }: Node, tape: Tape, chosen: ReadonlySet<string>): string | undefined =>
  sections.find((section) => tape.reversible.has(section)) ?? sections.find((section) => chosen.has(section));

/**
 * Plans recomputation (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost"): of the sections to recompute, the
 * values that enter them are kept instead of those that only their own gradients read. What is to be rebuilt is not kept
 * either: the section that it enters gives it back (Gomez et al. 2017, "The Reversible Residual Network").
 * @param saved every value that gradients read, from `saves`.
 */
export function recomputation(
  tape: Tape,
  tasks: readonly BackwardTask[],
  saved: ReadonlyMap<number, readonly Keeper[]>,
  choice: RecomputationChoice,
): Recomputation {
  const sources = new Sources(tape, tasks, choice);
  const kept = new Map(saved);
  const recomputed = new Set<number>();
  for (const [id, keepers] of saved) {
    if (!keepers.every(({ node }) => sources.isThereFor(node, id))) continue;
    kept.delete(id);
    recomputed.add(id);
  }
  // A section may start from a value of another one. Where that one rebuilds the value and runs first, it is one more value to
  // rebuild; else it is kept, so the other section has less to recompute.
  for (;;) {
    const sections = recomputedSections(
      [...recomputed].filter((id) => !kept.has(id)),
      kept,
      sources,
    );
    const entering = [...sections.values()].flatMap(({ name, from }) => [...from].map((id) => ({ id, name })));
    const missing = entering.filter(({ id, name }) => !kept.has(id) && !sources.isRebuiltBefore(name, id));
    for (const { id, name } of missing) {
      const { node } = sections.get(name)!.steps.find((step) => readBy(step).includes(id))!;
      kept.set(id, [...(kept.get(id) ?? []), { node, slots: [], recomputes: name }]);
    }
    const rebuilt = entering.filter(({ id }) => !kept.has(id) && !recomputed.has(id));
    for (const { id } of rebuilt) recomputed.add(id);
    if (missing.length === 0 && rebuilt.length === 0) return { kept, sections };
  }
}

/** How, and when, the backward pass gets values that are not kept. */
class Sources {
  /** Name of a section -> id of its uppermost node with gradients: right before them, the section runs again. */
  readonly #turns = new Map<string, number>();

  constructor(
    private readonly tape: Tape,
    tasks: readonly BackwardTask[],
    private readonly choice: RecomputationChoice,
  ) {
    for (const { node } of tasks) {
      const section = this.#sectionOf(node);
      if (section !== undefined && !this.#turns.has(section)) this.#turns.set(section, node.id);
    }
  }

  #sectionOf(node: Node): string | undefined {
    return sectionOf(node, this.tape, this.choice.chosen);
  }

  /** The step that gives a value; undefined for parameters and inputs. */
  stepFor(id: number): Step | undefined {
    const rebuilding = this.tape.nodes[this.choice.rebuilds.get(id) ?? -1];
    const section = rebuilding && this.#sectionOf(rebuilding);
    if (rebuilding && section !== undefined && this.#turns.has(section)) return { node: rebuilding, isInverse: true };
    const { origin } = this.tape.values[id]!;
    return origin.kind === "node" ? forwardStep(this.tape.nodes[origin.node]!) : undefined;
  }

  /** The section whose steps give a value; undefined for a value that only the forward pass gives. */
  sectionFor(id: number): string | undefined {
    const step = this.stepFor(id);
    return step && this.#sectionOf(step.node);
  }

  /** Whether a value that is not kept exists when the gradients of a node run. */
  isThereFor(reader: Node, id: number): boolean {
    const section = this.sectionFor(id);
    if (section === undefined || this.#sectionOf(reader) === section) return section !== undefined;
    return this.stepFor(id)!.isInverse && reader.id < this.#turns.get(section)!;
  }

  /** Whether another section rebuilds a value before this one runs. */
  isRebuiltBefore(name: string, id: number): boolean {
    const section = this.sectionFor(id);
    if (section === undefined || section === name || !this.stepFor(id)!.isInverse) return false;
    return this.#turns.get(section)! > this.#turns.get(name)!;
  }
}

/** The sections that give some values, by name. */
function recomputedSections(
  values: readonly number[],
  kept: ReadonlyMap<number, unknown>,
  sources: Sources,
): Map<string, RecomputedSection> {
  const bySection = new Map<string, Set<number>>();
  for (const id of values) {
    const section = sources.sectionFor(id)!;
    bySection.set(section, (bySection.get(section) ?? new Set()).add(id));
  }
  return new Map(
    [...bySection].map(([name, recomputed]) => {
      const [steps, from] = [new Map<string, Step>(), new Set<number>()];
      const waiting = [...recomputed];
      for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
        const step = sources.stepFor(id);
        if (!step) continue;
        if (kept.has(id) || sources.sectionFor(id) !== name) from.add(id);
        else if (!steps.has(keyOf(step))) {
          steps.set(keyOf(step), step);
          // An inverse starts from the output of its node, which cannot be recomputed from what is to be rebuilt.
          if (step.isInverse) from.add(mainOutput(step.node));
          waiting.push(...readBy(step).filter((read) => !from.has(read)));
        }
      }
      return [name, { name, steps: inOrder([...steps.values()]), values: recomputed, from }] as const;
    }),
  );
}

const keyOf = ({ node, isInverse }: Step): string => `${isInverse ? "inverse of " : ""}${node.id}`;

/** Emits the launches of recomputed sections when the backward pass reaches them. */
export class Recomputer {
  readonly #pending: Map<string, RecomputedSection>;
  /** Value id -> index of the last task that reads it. */
  readonly #lastReads = new Map<number, number>();

  constructor(
    private readonly tape: Tape,
    private readonly tasks: readonly BackwardTask[],
    private readonly chosen: ReadonlySet<string>,
    private readonly recomputation: Recomputation,
    private readonly locations: Locations,
    /** Ids of the values that are read after the run. */
    private readonly outputs: ReadonlySet<number>,
    private readonly emitter: Emitter,
    private readonly packing: Packing,
  ) {
    this.#pending = new Map(recomputation.sections);
    tasks.forEach(({ node, reads }, index) => {
      for (const slot of reads) this.#lastReads.set(forwardValue(node, slot) ?? -1, index);
    });
  }

  /** Emits the section of the node of a task that is about to be emitted, the first time it is reached. */
  before(index: number): void {
    const { node } = this.tasks[index]!;
    const name = sectionOf(node, this.tape, this.chosen);
    const section = name === undefined ? undefined : this.#pending.get(name);
    if (!section) return;
    this.#pending.delete(section.name);
    const { steps, values, from } = section;
    const needed = new Set([...this.recomputation.kept.keys(), ...values, ...from]);
    // What enters a reversible layer takes the place of what left it.
    for (const step of steps) {
      const output = mainOutput(step.node);
      if (step.isInverse && !this.#isReadFrom(index, output)) needed.delete(output);
    }
    for (const id of from) this.packing.before(id, node);
    emitSteps(this.tape, steps, this.locations, needed, this.emitter, { phase: "recompute" });
  }

  #isReadFrom(index: number, id: number): boolean {
    return this.outputs.has(id) || this.needs(id) || (this.#lastReads.get(id) ?? -1) >= index;
  }

  /** Whether a section that is still to be emitted reads a value. */
  needs(id: number): boolean {
    return [...this.#pending.values()].some(({ from }) => from.has(id));
  }
}
