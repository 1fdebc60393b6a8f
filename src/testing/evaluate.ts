import type { ReferenceTensor } from "../op/declaration";
import type { Tape, Value } from "../tape/tape";
import { withTests } from "./ops";

/**
 * Evaluates a tape forward in float64 on the CPU, by the references of its ops. Tests compare the results of every adapter
 * with it. It is slow; use small shapes.
 * @param externals every parameter and input that is not a constant, by name.
 * @returns the tensors of `values`, in their order.
 */
export function evaluate(
  tape: Tape,
  externals: Readonly<Record<string, ReferenceTensor>>,
  values: readonly Value[],
): ReferenceTensor[] {
  const computed = new Map<number, ReferenceTensor>();
  const tensorOf = (id: number): ReferenceTensor => {
    const { origin, shape } = tape.values[id]!;
    const constant = origin.kind === "input" ? tape.constants.get(origin.name) : undefined;
    if (constant) return { shape, data: Float64Array.from(constant) };
    const tensor = origin.kind === "node" ? computed.get(id) : externals[origin.name];
    if (!tensor) throw new Error(`The reference lacks ${origin.kind === "node" ? `value ${id}` : origin.name}.`);
    return tensor;
  };
  for (const node of tape.nodes) {
    const inputs = Object.fromEntries(Object.entries(node.inputs).map(([slot, id]) => [slot, tensorOf(id)]));
    const outputs = withTests(node.op).reference?.(inputs, node.attributes);
    if (!outputs) throw new Error(`The op ${node.op.name} has no reference.`);
    for (const [slot, id] of Object.entries(node.outputs)) computed.set(id, outputs[slot]!);
  }
  return values.map(({ id }) => tensorOf(id));
}
