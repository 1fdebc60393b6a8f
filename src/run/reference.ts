import type { ReferenceTensor } from "../op/declaration";
import type { Tape, Value } from "../tape/tape";

/**
 * Runs a tape forward in float64 on the CPU, by the ops' own references: what every adapter's numbers are held
 * against. Slow; for small shapes.
 * @param given every parameter and input, by name.
 */
export function evaluate(
  tape: Tape,
  given: Readonly<Record<string, ReferenceTensor>>,
  wanted: readonly Value[],
): ReferenceTensor[] {
  const found = new Map<number, ReferenceTensor>();
  const value = (id: number): ReferenceTensor => {
    const origin = tape.values[id]!.origin;
    const tensor = origin.kind === "node" ? found.get(id) : given[origin.name];
    if (!tensor) throw new Error(`The reference misses ${origin.kind === "node" ? `value ${id}` : origin.name}.`);
    return tensor;
  };
  for (const node of tape.nodes) {
    const inputs = Object.fromEntries(Object.entries(node.inputs).map(([slot, id]) => [slot, value(id)]));
    const outputs = node.op.reference(inputs, node.attributes);
    for (const [slot, id] of Object.entries(node.outputs)) found.set(id, outputs[slot]!);
  }
  return wanted.map(({ id }) => value(id));
}
