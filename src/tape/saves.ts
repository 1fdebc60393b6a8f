import type { GradientRule } from "../op/declaration";
import { ancestors, mainOutput } from "./reach";
import type { Node, Tape, Value } from "./tape";

/** One step of a node's backward work: a temp that gradients share, or a gradient rule. */
export interface BackwardTask {
  readonly node: Node;
  readonly temp?: string;
  readonly rule?: GradientRule<never>;
  /** Slots that its launches read: inputs, outputs, temps, and `d` + first output. */
  readonly reads: readonly string[];
}

/** A reason to keep a forward value: the gradient that reads it. */
export interface Keeper {
  readonly node: Node;
  /** Input slots whose gradients read the value, as `a` of a LoRA projection. */
  readonly slots: readonly string[];
  /** The section that begins from the value when it runs again, where that is why. */
  readonly recomputes?: string;
}

/** The slot that names the gradient of a node's first output. */
export const outputGradient = (node: Node): string => `d${node.op.outputs[0]!}`;

/** The backward work that the wanted gradients ask for, in the order in which it runs. */
export function backwardTasks(tape: Tape, loss: Value, wanted: ReadonlySet<number>): BackwardTask[] {
  return ancestors(tape, [loss])
    .reverse()
    .filter((node) => wanted.has(mainOutput(node)))
    .flatMap((node) => nodeTasks(node, wanted));
}

function nodeTasks(node: Node, wanted: ReadonlySet<number>): BackwardTask[] {
  const rules = chooseRules(node, wanted);
  const tasks: BackwardTask[] = [];
  const made = new Set<string>();
  const makeTemps = (reads: readonly string[]): void => {
    for (const slot of reads) {
      const temp = node.op.temps?.[slot];
      if (!temp || made.has(slot)) continue;
      made.add(slot);
      makeTemps(temp.reads);
      tasks.push({ node, temp: slot, reads: temp.reads });
    }
  };
  for (const rule of rules) {
    const reads = rule.reads(node.attributes as never);
    makeTemps(reads);
    tasks.push({ node, rule, reads: [...reads, outputGradient(node)] });
  }
  return tasks;
}

/** The declared rules that cover the wanted inputs, those that make several gradients at once first. */
function chooseRules(node: Node, wanted: ReadonlySet<number>): GradientRule<never>[] {
  const open = new Set(
    Object.entries(node.inputs)
      .filter(([slot, id]) => node.op.inputs[slot]?.gradient && wanted.has(id))
      .map(([slot]) => slot),
  );
  const chosen: GradientRule<never>[] = [];
  const bySize = [...node.op.gradients].sort((a, b) => b.wrt.length - a.wrt.length);
  for (const rule of bySize) {
    if (rule.wrt.every((slot) => open.has(slot))) {
      chosen.push(rule);
      rule.wrt.forEach((slot) => open.delete(slot));
    }
  }
  if (open.size > 0) throw new Error(`${node.op.name} declares no gradient for ${[...open].join(", ")}.`);
  return chosen.sort((a, b) => order(node, a) - order(node, b));
}

const order = (node: Node, rule: GradientRule<never>): number => node.op.gradients.indexOf(rule);

/** The forward value that a slot of `node` names, if it names one (temps and gradients do not). */
export const forwardValue = (node: Node, slot: string): number | undefined => node.inputs[slot] ?? node.outputs[slot];

/**
 * The activations that the wanted gradients read, each with the gradients that keep it. Parameters and inputs are
 * there anyway and not listed. This is what a training step saves, and all that it saves.
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

/** The gradients for whose sake a temp is made. */
function readersOf(task: BackwardTask, tasks: readonly BackwardTask[]): string[] {
  return tasks
    .filter((other) => other.node === task.node && other.reads.includes(task.temp!))
    .flatMap((other) => (other.rule ? other.rule.wrt : readersOf(other, tasks)));
}
