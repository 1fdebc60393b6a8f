import type { Emitter, Place } from "./emit";
import { emitForward } from "./forward";
import type { Packing } from "./packing";
import { forwardValue } from "./saves";
import type { BackwardTask, Keeper } from "./saves";
import type { Node, Tape } from "./tape";

/** A section of the tape that runs again in the backward pass, before its gradients. */
export interface Remade {
  readonly section: string;
  /** What runs again, in order of recording. */
  readonly nodes: readonly Node[];
  /** Values that its gradients read. */
  readonly values: ReadonlySet<number>;
  /** Kept values that it begins from. */
  readonly from: ReadonlySet<number>;
}

/** What is kept, and what is made again. */
export interface Recomputation {
  readonly kept: ReadonlyMap<number, readonly Keeper[]>;
  readonly sections: ReadonlyMap<string, Remade>;
}

/** The outermost of a node's sections that is to run again. */
export const sectionOf = (node: Node, chosen: ReadonlySet<string>): string | undefined =>
  node.sections.find((section) => chosen.has(section));

/**
 * Keeps what enters the chosen sections in place of what their gradients read within them (Chen et al. 2016). Values that
 * others read too stay kept. Pure.
 */
export function recomputation(
  tape: Tape,
  tasks: readonly BackwardTask[],
  saved: ReadonlyMap<number, readonly Keeper[]>,
  chosen: ReadonlySet<string>,
): Recomputation {
  const producer = (id: number): Node | undefined => {
    const origin = tape.values[id]!.origin;
    return origin.kind === "node" ? tape.nodes[origin.node] : undefined;
  };
  const home = (id: number): string | undefined => {
    const node = producer(id);
    return node && sectionOf(node, chosen);
  };
  const readers = new Map<number, Set<string | undefined>>();
  for (const { node, reads } of tasks) {
    for (const slot of reads) {
      const id = forwardValue(node, slot);
      if (id !== undefined) readers.set(id, (readers.get(id) ?? new Set()).add(sectionOf(node, chosen)));
    }
  }
  const isOwn = (id: number): boolean => {
    const section = home(id);
    return section !== undefined && [...(readers.get(id) ?? [])].every((reader) => reader === section);
  };
  const kept = new Map([...saved].filter(([id]) => !isOwn(id)));
  // What one section begins from may lie within another: it is kept then, and that one has less to make.
  for (;;) {
    const sections = remadeSections(
      [...saved.keys()].filter((id) => !kept.has(id)),
      { kept, home, producer, tape },
    );
    const missing = [...sections.values()].flatMap(({ from, nodes }) =>
      [...from].filter((id) => !kept.has(id)).map((id) => [id, nodes] as const),
    );
    if (missing.length === 0) return { kept, sections };
    for (const [id, nodes] of missing) {
      const reader = nodes.find((node) => Object.values(node.inputs).includes(id))!;
      kept.set(id, [...(kept.get(id) ?? []), { node: reader, slots: [], recomputes: sectionOf(reader, chosen)! }]);
    }
  }
}

interface Lookups {
  readonly tape: Tape;
  readonly kept: ReadonlyMap<number, unknown>;
  readonly home: (id: number) => string | undefined;
  readonly producer: (id: number) => Node | undefined;
}

function remadeSections(values: readonly number[], { tape, kept, home, producer }: Lookups): Map<string, Remade> {
  const bySection = new Map<string, Set<number>>();
  for (const id of values) {
    const section = home(id)!;
    bySection.set(section, (bySection.get(section) ?? new Set()).add(id));
  }
  return new Map(
    [...bySection].map(([section, wanted]) => {
      const [again, from] = [new Set<number>(), new Set<number>()];
      const waiting = [...wanted];
      for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
        const node = producer(id);
        if (!node) continue;
        if (kept.has(id) || home(id) !== section) from.add(id);
        else if (!again.has(node.id)) {
          again.add(node.id);
          waiting.push(...Object.values(node.inputs));
        }
      }
      const nodes = tape.nodes.filter(({ id }) => again.has(id));
      return [section, { section, nodes, values: wanted, from }] as const;
    }),
  );
}

/** Runs sections again when the backward pass comes to them. */
export class Recomputer {
  readonly #waiting: Map<string, Remade>;

  constructor(
    private readonly tape: Tape,
    private readonly chosen: ReadonlySet<string>,
    private readonly plan: Recomputation,
    private readonly places: Map<number, Place>,
    private readonly emitter: Emitter,
    private readonly packing: Packing,
  ) {
    this.#waiting = new Map(plan.sections);
  }

  /** Emits a node's section, if that is still to be done. */
  before(node: Node): void {
    const section = sectionOf(node, this.chosen);
    const remade = section === undefined ? undefined : this.#waiting.get(section);
    if (!remade) return;
    this.#waiting.delete(remade.section);
    const needed = new Set([...this.plan.kept.keys(), ...remade.values]);
    for (const id of remade.from) this.packing.before(id, node);
    emitForward(this.tape, remade.nodes, this.places, needed, this.emitter, { phase: "recompute" });
  }

  /** Whether a section that is still to run begins from a value. */
  needs(id: number): boolean {
    return [...this.#waiting.values()].some(({ from }) => from.has(id));
  }
}
