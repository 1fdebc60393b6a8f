import type { Attributes, GradientRule } from "../op/declaration";
import { ancestors, mainOutput } from "./reach";
import type { Node, Tape, Value } from "./tape";

/** A unit of a node's backward work: either a temp that several gradients read, or a gradient rule. */
export interface BackwardTask {
  readonly node: Node;
  readonly temp?: string;
  readonly rule?: GradientRule<Attributes>;
  /** Slots that its launches read: inputs, outputs, temps, and `d` + first output. */
  readonly reads: readonly string[];
}

/** A reason to keep a forward value: the gradients that read it. */
export interface Keeper {
  readonly node: Node;
  /** Input slots of `node` whose gradients read the value, such as `a` of a LoRA projection. */
  readonly slots: readonly string[];
  /** The section that starts from the value when it is recomputed, if that is the reason. */
  readonly recomputes?: string;
}

/** The slot that names the gradient of a node's first output. */
export const outputGradient = (node: Node): string => `d${node.op.outputs[0]!}`;

/** The work that computes the wanted gradients, in the order in which it runs. @param wanted value ids, from `reach`. */
export function backwardTasks(tape: Tape, loss: Value, wanted: ReadonlySet<number>): BackwardTask[] {
  return ancestors(tape, [loss])
    .reverse()
    .filter((node) => wanted.has(mainOutput(node)))
    .flatMap((node) => nodeTasks(node, wanted));
}

function nodeTasks(node: Node, wanted: ReadonlySet<number>): BackwardTask[] {
  const rules = chooseRules(node, wanted);
  const tasks: BackwardTask[] = [];
  const planned = new Set<string>();
  const planTemps = (reads: readonly string[]): void => {
    for (const slot of reads) {
      const temp = node.op.temps?.[slot];
      if (!temp || planned.has(slot)) continue;
      planned.add(slot);
      planTemps(temp.reads);
      tasks.push({ node, temp: slot, reads: temp.reads });
    }
  };
  for (const rule of rules) {
    const reads = rule.reads(node.attributes);
    planTemps(reads);
    tasks.push({ node, rule, reads: [...reads, outputGradient(node)] });
  }
  return tasks;
}

/** Rules that cover the wanted inputs, in the order of their declaration; one rule for several inputs wins over single ones. */
function chooseRules(node: Node, wanted: ReadonlySet<number>): GradientRule<Attributes>[] {
  const uncovered = new Set(
    Object.entries(node.inputs)
      .filter(([slot, id]) => node.op.inputs[slot]?.gradient && wanted.has(id))
      .map(([slot]) => slot),
  );
  const chosen = new Set<GradientRule<Attributes>>();
  const bySize = [...node.op.gradients].sort((a, b) => b.wrt.length - a.wrt.length);
  for (const rule of bySize) {
    if (rule.wrt.every((slot) => uncovered.has(slot))) {
      chosen.add(rule);
      rule.wrt.forEach((slot) => uncovered.delete(slot));
    }
  }
  if (uncovered.size > 0) throw new Error(`${node.op.name} declares no gradient for ${[...uncovered].join(", ")}.`);
  return node.op.gradients.filter((rule) => chosen.has(rule));
}

/** Id of the value in an input or output slot of `node`; undefined for temps and gradients. */
export const forwardValue = (node: Node, slot: string): number | undefined => node.inputs[slot] ?? node.outputs[slot];

/**
 * The activations that the wanted gradients read, by value id, each with the gradients that keep it. This is exactly what a
 * training step saves. Parameters and inputs exist anyway and are not listed.
 */
export function saves(tape: Tape, tasks: readonly BackwardTask[]): ReadonlyMap<number, readonly Keeper[]> {
  const kept = new Map<number, Keeper[]>();
  for (const task of tasks) {
    for (const slot of task.reads) {
      const id = forwardValue(task.node, slot);
      if (id === undefined || tape.values[id]?.origin.kind !== "node") continue;
      const slots = task.rule ? task.rule.wrt : readersOf(task, tasks);
      kept.set(id, [...(kept.get(id) ?? []), { node: task.node, slots }]);
    }
  }
  return kept;
}

/** Input slots whose gradients read a temp, directly or through another temp. */
function readersOf(task: BackwardTask, tasks: readonly BackwardTask[]): string[] {
  return tasks
    .filter((other) => other.node === task.node && other.reads.includes(task.temp!))
    .flatMap((other) => (other.rule ? other.rule.wrt : readersOf(other, tasks)));
}
