import type { Node, Tape, Value } from "./tape";

/** Every node that the given values are computed from, in order of recording. */
export function ancestors(tape: Tape, of: readonly Value[]): Node[] {
  const needed = new Set<number>();
  const waiting = of.map((value) => value.id);
  for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
    const origin = tape.values[id]?.origin;
    if (origin?.kind !== "node" || needed.has(origin.node)) continue;
    needed.add(origin.node);
    waiting.push(...Object.values(tape.nodes[origin.node]!.inputs));
  }
  return tape.nodes.filter((node) => needed.has(node.id));
}

/**
 * Values whose gradient is wanted: a trainable parameter, or an activation through which a trainable parameter
 * influences the loss. Everything else is a constant to the backward pass; below the lowest trainable parameter (the
 * horizon) nothing is wanted, so nothing runs backward there.
 */
export function reach(tape: Tape, loss: Value, trainable: ReadonlySet<string>): ReadonlySet<number> {
  const nodes = ancestors(tape, [loss]);
  const learns = dependents(tape, nodes, trainable);
  const wanted = new Set<number>();
  const differentiated = new Set([loss.id]);
  for (const node of nodes.reverse()) {
    const output = mainOutput(node);
    if (!differentiated.has(output) || !learns.has(output)) continue;
    wanted.add(output);
    for (const [slot, id] of Object.entries(node.inputs)) {
      if (!node.op.inputs[slot]?.gradient || !learns.has(id)) continue;
      differentiated.add(id);
      wanted.add(id);
    }
  }
  return wanted;
}

/** The value that carries a node's gradient. */
export const mainOutput = (node: Node): number => node.outputs[node.op.outputs[0]!]!;

/** Trainable parameters and every value that depends on one through differentiable inputs. */
function dependents(tape: Tape, nodes: readonly Node[], trainable: ReadonlySet<string>): ReadonlySet<number> {
  const found = new Set<number>();
  for (const { origin, id } of tape.values) {
    if (origin.kind === "parameter" && trainable.has(origin.name)) found.add(id);
  }
  for (const node of nodes) {
    const learns = Object.entries(node.inputs).some(([slot, id]) => node.op.inputs[slot]?.gradient && found.has(id));
    if (learns) found.add(mainOutput(node));
  }
  return found;
}
