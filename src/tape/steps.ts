import { mainOutput } from "./reach";
import type { Node } from "./tape";

/** One thing that a pass does with a node: its forward launches, or its inverse, which gives one of its inputs back. */
export interface Step {
  readonly node: Node;
  readonly isInverse: boolean;
}

/** The step that computes a node's outputs. */
export const forwardStep = (node: Node): Step => ({ node, isInverse: false });

/** Id of a node's first output, or of the input that its inverse gives back. */
export const firstResult = ({ node, isInverse }: Step): number =>
  isInverse ? node.inputs[node.op.inverse!.of]! : mainOutput(node);

/** Ids of the values that a step reads, once for each slot. */
export function readBy({ node, isInverse }: Step): number[] {
  if (!isInverse) return Object.values(node.inputs);
  const others = Object.entries(node.inputs).filter(([slot]) => slot !== node.op.inverse!.of);
  return [mainOutput(node), ...others.map(([, id]) => id)];
}

/** Ids of the values that a step writes. */
export const writtenBy = (step: Step): number[] =>
  step.isInverse ? [firstResult(step)] : Object.values(step.node.outputs);

/**
 * Steps in an order in which each follows those whose values it reads, otherwise by the nodes' order on the tape.
 * @throws Error for steps that need each other's values.
 */
export function inOrder(steps: readonly Step[]): Step[] {
  const waiting = [...steps].sort((a, b) => a.node.id - b.node.id);
  const missing = new Set(waiting.flatMap(writtenBy));
  const ordered: Step[] = [];
  while (waiting.length > 0) {
    const next = waiting.findIndex((step) => !readBy(step).some((id) => missing.has(id)));
    if (next < 0) throw new Error(`${waiting[0]!.node.label} is rebuilt from itself.`);
    const [step] = waiting.splice(next, 1);
    writtenBy(step!).forEach((id) => missing.delete(id));
    ordered.push(step!);
  }
  return ordered;
}
