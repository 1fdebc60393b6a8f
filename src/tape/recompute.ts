import type { Emitter, Locations } from "./emit";
import { emitForward } from "./forward";
import type { Packing } from "./packing";
import { forwardValue } from "./saves";
import type { BackwardTask, Keeper } from "./saves";
import type { Node, Tape } from "./tape";

/** A section of the tape that runs again in the backward pass, right before its gradients. */
export interface RecomputedSection {
  readonly name: string;
  /** Nodes that run again, in the order of recording. */
  readonly nodes: readonly Node[];
  /** Ids of the recomputed values that gradients read. */
  readonly values: ReadonlySet<number>;
  /** Ids of the values from outside that `nodes` read. */
  readonly from: ReadonlySet<number>;
}

/** Which values are kept for the backward pass, and which sections are recomputed. */
export interface Recomputation {
  /** Kept values by id, with the reasons to keep them. */
  readonly kept: ReadonlyMap<number, readonly Keeper[]>;
  readonly sections: ReadonlyMap<string, RecomputedSection>;
}

/** Name of the outermost section of a node that is recomputed. */
const recomputedSectionOf = (node: Node, recomputed: ReadonlySet<string>): string | undefined =>
  node.sections.find((section) => recomputed.has(section));

/**
 * Plans recomputation (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost"): of the sections to recompute, the
 * values that enter them are kept instead of those that only their own gradients read.
 * @param saved every value that gradients read, from `saves`.
 * @param recomputed names of sections.
 */
export function recomputation(
  tape: Tape,
  tasks: readonly BackwardTask[],
  saved: ReadonlyMap<number, readonly Keeper[]>,
  recomputed: ReadonlySet<string>,
): Recomputation {
  const producer = (id: number): Node | undefined => {
    const { origin } = tape.values[id]!;
    return origin.kind === "node" ? tape.nodes[origin.node] : undefined;
  };
  const sectionOf = (id: number): string | undefined => {
    const node = producer(id);
    return node && recomputedSectionOf(node, recomputed);
  };
  const readingSections = new Map<number, Set<string | undefined>>();
  for (const { node, reads } of tasks) {
    for (const slot of reads) {
      const id = forwardValue(node, slot);
      if (id === undefined) continue;
      const sections = readingSections.get(id) ?? new Set();
      readingSections.set(id, sections.add(recomputedSectionOf(node, recomputed)));
    }
  }
  const isReadOnlyWithin = (id: number): boolean => {
    const section = sectionOf(id);
    return section !== undefined && [...(readingSections.get(id) ?? [])].every((reader) => reader === section);
  };
  const kept = new Map([...saved].filter(([id]) => !isReadOnlyWithin(id)));
  // A section may start from a value within another one. That value is then kept, so the other has less to recompute.
  for (;;) {
    const values = [...saved.keys()].filter((id) => !kept.has(id));
    const sections = recomputedSections(values, { kept, sectionOf, producer, tape });
    const missing = [...sections.values()].flatMap(({ from, nodes }) =>
      [...from].filter((id) => !kept.has(id)).map((id) => [id, nodes] as const),
    );
    if (missing.length === 0) return { kept, sections };
    for (const [id, nodes] of missing) {
      const node = nodes.find(({ inputs }) => Object.values(inputs).includes(id))!;
      const keeper = { node, slots: [], recomputes: recomputedSectionOf(node, recomputed)! };
      kept.set(id, [...(kept.get(id) ?? []), keeper]);
    }
  }
}

interface Lookups {
  readonly tape: Tape;
  readonly kept: ReadonlyMap<number, unknown>;
  readonly sectionOf: (id: number) => string | undefined;
  readonly producer: (id: number) => Node | undefined;
}

/** The sections that recompute some values, by name. */
function recomputedSections(
  values: readonly number[],
  { tape, kept, sectionOf, producer }: Lookups,
): Map<string, RecomputedSection> {
  const bySection = new Map<string, Set<number>>();
  for (const id of values) {
    const section = sectionOf(id)!;
    bySection.set(section, (bySection.get(section) ?? new Set()).add(id));
  }
  return new Map(
    [...bySection].map(([name, wanted]) => {
      const [nodeIds, from] = [new Set<number>(), new Set<number>()];
      const waiting = [...wanted];
      for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
        const node = producer(id);
        if (!node) continue;
        if (kept.has(id) || sectionOf(id) !== name) from.add(id);
        else if (!nodeIds.has(node.id)) {
          nodeIds.add(node.id);
          waiting.push(...Object.values(node.inputs));
        }
      }
      const nodes = tape.nodes.filter(({ id }) => nodeIds.has(id));
      return [name, { name, nodes, values: wanted, from }] as const;
    }),
  );
}

/** Emits the launches of recomputed sections when the backward pass reaches them. */
export class Recomputer {
  readonly #pending: Map<string, RecomputedSection>;

  constructor(
    private readonly tape: Tape,
    private readonly recomputed: ReadonlySet<string>,
    private readonly recomputation: Recomputation,
    private readonly locations: Locations,
    private readonly emitter: Emitter,
    private readonly packing: Packing,
  ) {
    this.#pending = new Map(recomputation.sections);
  }

  /** Emits the section of a node that is about to be differentiated, the first time it is reached. */
  before(node: Node): void {
    const name = recomputedSectionOf(node, this.recomputed);
    const section = name === undefined ? undefined : this.#pending.get(name);
    if (!section) return;
    this.#pending.delete(section.name);
    const needed = new Set([...this.recomputation.kept.keys(), ...section.values]);
    for (const id of section.from) this.packing.before(id, node);
    emitForward(this.tape, section.nodes, this.locations, needed, this.emitter, { phase: "recompute" });
  }

  /** Whether a section that is still to be emitted reads a value. */
  needs(id: number): boolean {
    return [...this.#pending.values()].some(({ from }) => from.has(id));
  }
}
