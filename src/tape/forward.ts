import type { TensorSpec } from "../op/declaration";
import { launchContext, specBytes } from "./emit";
import type { Place, Emitter, Phase } from "./emit";
import { mainOutput } from "./reach";
import { forwardValue } from "./saves";
import type { Node, Tape } from "./tape";

/** Where each forward value lies, by value id. */
export type Places = Map<number, Place>;

/** The spec of any slot of a node: inputs, outputs, temps, and gradients of inputs and of the first output. */
export function slotSpec(tape: Tape, node: Node, slot: string): TensorSpec | undefined {
  const id = forwardValue(node, slot);
  if (id !== undefined) return tape.values[id];
  const temp = node.op.temps?.[slot];
  if (temp) return temp.spec(launchContext(node, unlimited, (other) => slotSpec(tape, node, other)));
  if (slot.startsWith("d")) {
    const of = forwardValue(node, slot.slice(1));
    return of === undefined ? undefined : tape.values[of];
  }
  return undefined;
}

const unlimited = { bindingBytes: Infinity, offsetAlignment: 1, workgroupsPerDimension: Infinity };

/** Emits the forward launches of `nodes`; an op that may overwrite an input does so where nothing reads it later. */
export function emitForward(
  tape: Tape,
  nodes: readonly Node[],
  places: Places,
  kept: ReadonlySet<number>,
  emitter: Emitter,
  { phase = "forward", after }: { phase?: Phase; after?: (node: Node) => void } = {},
): void {
  const readers = countReaders(nodes);
  for (const node of nodes) {
    const temps = new Map<string, Place>();
    const reused = reusableInput(tape, node, readers, kept, places);
    for (const id of Object.values(node.outputs)) {
      const place = reused !== undefined && id === mainOutput(node) ? places.get(reused) : undefined;
      places.set(id, place ?? emitter.allocate(tape.values[id] as TensorSpec));
    }
    for (const temp of node.op.forwardTemps ?? []) {
      temps.set(temp, emitter.allocate(slotSpec(tape, node, temp)!));
    }
    const context = launchContext(node, emitter.limits, (slot) => slotSpec(tape, node, slot), {
      inPlace: reused !== undefined,
    });
    emitter.emit(node.op.forward(context), node, phase, (slot) => [
      findPlace(node, slot, places, temps),
      slotSpec(tape, node, slot)!,
    ]);
    after?.(node);
    for (const id of Object.values(node.inputs)) readers.set(id, (readers.get(id) ?? 0) - 1);
  }
}

function findPlace(node: Node, slot: string, places: Places, temps: ReadonlyMap<string, Place>): Place {
  const place = temps.get(slot) ?? places.get(forwardValue(node, slot) ?? -1);
  if (!place) throw new Error(`${node.op.name} (${node.label}) binds ${slot}, which its forward pass does not have.`);
  return place;
}

function countReaders(nodes: readonly Node[]): Map<number, number> {
  const readers = new Map<number, number>();
  for (const node of nodes) {
    for (const id of Object.values(node.inputs)) readers.set(id, (readers.get(id) ?? 0) + 1);
  }
  return readers;
}

/** The input that the first output may overwrite: an activation that nothing else reads, now or later. */
function reusableInput(
  tape: Tape,
  node: Node,
  readers: ReadonlyMap<number, number>,
  kept: ReadonlySet<number>,
  places: Places,
): number | undefined {
  const id = node.op.overwrites === undefined ? undefined : node.inputs[node.op.overwrites];
  if (id === undefined || kept.has(id) || readers.get(id) !== 1) return undefined;
  const value = tape.values[id] as TensorSpec & { origin: { kind: string } };
  const output = tape.values[mainOutput(node)] as TensorSpec;
  const fits = value.origin.kind === "node" && specBytes(value) === specBytes(output);
  return fits && places.get(id)?.kind === "virtual" ? id : undefined;
}
