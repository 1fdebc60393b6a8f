import type { TensorSpec } from "../op/declaration";
import { launchContext, specBytes } from "./emit";
import type { Emitter, Location, Locations, Phase } from "./emit";
import { mainOutput } from "./reach";
import { forwardValue } from "./saves";
import type { Node, Tape } from "./tape";

/** Shape and type of any slot of a node: inputs, outputs, temps, and gradients of inputs and of the first output. */
export function slotSpec(tape: Tape, node: Node, slot: string): TensorSpec | undefined {
  const id = forwardValue(node, slot);
  if (id !== undefined) return tape.values[id];
  const temp = node.op.temps?.[slot];
  if (temp) return temp.spec(launchContext(node, UNLIMITED, (other) => slotSpec(tape, node, other)));
  const differentiated = slot.startsWith("d") ? forwardValue(node, slot.slice(1)) : undefined;
  return differentiated === undefined ? undefined : tape.values[differentiated];
}

const UNLIMITED = { bindingBytes: Infinity, offsetAlignment: 1, workgroupsPerDimension: Infinity };

/**
 * Emits the forward launches of `nodes` and adds the location of every output to `locations`. An op that may overwrite an
 * input does so if nothing reads that input later.
 * @param kept values that must not be overwritten.
 * @param after called when a node's launches are emitted.
 */
export function emitForward(
  tape: Tape,
  nodes: readonly Node[],
  locations: Locations,
  kept: ReadonlySet<number>,
  emitter: Emitter,
  { phase = "forward", after }: { phase?: Phase; after?: (node: Node) => void } = {},
): void {
  const readers = countReaders(nodes);
  for (const node of nodes) {
    const temps = new Map<string, Location>();
    const reused = reusableInput(tape, node, readers, kept, locations);
    for (const id of Object.values(node.outputs)) {
      const location = reused !== undefined && id === mainOutput(node) ? locations.get(reused) : undefined;
      locations.set(id, location ?? emitter.allocate(tape.values[id]!));
    }
    for (const temp of node.op.forwardTemps ?? []) {
      temps.set(temp, emitter.allocate(slotSpec(tape, node, temp)!));
    }
    const context = launchContext(node, emitter.limits, (slot) => slotSpec(tape, node, slot), {
      inPlace: reused !== undefined,
    });
    emitter.emit(node.op.forward(context), node, phase, (slot) => [
      locate(node, slot, locations, temps),
      slotSpec(tape, node, slot)!,
    ]);
    after?.(node);
    for (const id of Object.values(node.inputs)) readers.set(id, (readers.get(id) ?? 0) - 1);
  }
}

function locate(node: Node, slot: string, locations: Locations, temps: ReadonlyMap<string, Location>): Location {
  const location = temps.get(slot) ?? locations.get(forwardValue(node, slot) ?? -1);
  if (location) return location;
  throw new Error(`${node.op.name} (${node.label}) binds ${slot}, which its forward pass does not have.`);
}

/** Number of slots of `nodes` to which each value is bound, by value id. */
function countReaders(nodes: readonly Node[]): Map<number, number> {
  const readers = new Map<number, number>();
  for (const node of nodes) {
    for (const id of Object.values(node.inputs)) readers.set(id, (readers.get(id) ?? 0) + 1);
  }
  return readers;
}

/** Id of the input that the first output may overwrite: an activation that nothing else reads, now or later. */
function reusableInput(
  tape: Tape,
  node: Node,
  readers: ReadonlyMap<number, number>,
  kept: ReadonlySet<number>,
  locations: Locations,
): number | undefined {
  const id = node.op.overwrites === undefined ? undefined : node.inputs[node.op.overwrites];
  if (id === undefined || kept.has(id) || readers.get(id) !== 1) return undefined;
  const value = tape.values[id]!;
  const output = tape.values[mainOutput(node)]!;
  const fits = value.origin.kind === "node" && specBytes(value) === specBytes(output);
  return fits && locations.get(id)?.kind === "virtual" ? id : undefined;
}
