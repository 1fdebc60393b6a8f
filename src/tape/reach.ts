import type { Node, Tape, Value } from "./tape";

/** Every node that contributes to some values, in the order of recording. */
export function ancestors(tape: Tape, values: readonly Value[]): Node[] {
  const needed = new Set<number>();
  const waiting = values.map(({ id }) => id);
  for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
    const origin = tape.values[id]?.origin;
    if (origin?.kind !== "node" || needed.has(origin.node)) continue;
    needed.add(origin.node);
    waiting.push(...Object.values(tape.nodes[origin.node]!.inputs));
  }
  return tape.nodes.filter((node) => needed.has(node.id));
}

/**
 * Ids of the values whose gradient is wanted: trainable parameters, and activations through which a trainable parameter
 * influences the loss. Everything else is a constant for the backward pass. Below the lowest trainable parameter (the
 * horizon) no gradient is wanted, so nothing runs backward there.
 */
export function reach(tape: Tape, loss: Value, trainable: ReadonlySet<string>): ReadonlySet<number> {
  const nodes = ancestors(tape, [loss]);
  const trained = dependents(tape, nodes, trainable);
  const wanted = new Set<number>();
  const differentiated = new Set([loss.id]);
  for (const node of nodes.reverse()) {
    const output = mainOutput(node);
    if (!differentiated.has(output) || !trained.has(output)) continue;
    wanted.add(output);
    for (const [slot, id] of Object.entries(node.inputs)) {
      if (!node.op.inputs[slot]?.gradient || !trained.has(id)) continue;
      differentiated.add(id);
      wanted.add(id);
    }
  }
  return wanted;
}

/** Id of a node's first output, the one through which gradients flow. */
export const mainOutput = (node: Node): number => node.outputs[node.op.outputs[0]!]!;

/** Ids of trainable parameters, and of every value that depends on one through differentiable inputs. */
function dependents(tape: Tape, nodes: readonly Node[], trainable: ReadonlySet<string>): ReadonlySet<number> {
  const dependent = new Set<number>();
  for (const { origin, id } of tape.values) {
    if (origin.kind === "parameter" && trainable.has(origin.name)) dependent.add(id);
  }
  for (const node of nodes) {
    const isDependent = Object.entries(node.inputs).some(
      ([slot, id]) => node.op.inputs[slot]?.gradient && dependent.has(id),
    );
    if (isDependent) dependent.add(mainOutput(node));
  }
  return dependent;
}
