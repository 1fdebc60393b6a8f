import type { TensorSpec } from "../op/declaration";
import { launchContext, specBytes } from "./emit";
import type { Emitter, Location, Locations, Phase } from "./emit";
import { mainOutput } from "./reach";
import { forwardValue } from "./saves";
import { firstResult, readBy, writtenBy } from "./steps";
import type { Step } from "./steps";
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
 * Emits the launches of steps and adds the location of everything that they write to `locations`. An op that may overwrite an
 * input does so if nothing reads that input later; an inverse overwrites the output that it starts from in the same way.
 * @param kept values that must not be overwritten.
 * @param after called when a node's launches are emitted.
 */
export function emitSteps(
  tape: Tape,
  steps: readonly Step[],
  locations: Locations,
  kept: ReadonlySet<number>,
  emitter: Emitter,
  { phase = "forward", after }: { phase?: Phase; after?: (node: Node) => void } = {},
): void {
  const readers = countReaders(steps);
  for (const step of steps) {
    const { node, isInverse } = step;
    const temps = new Map<string, Location>();
    const reused = reusableValue(tape, step, readers, kept, locations);
    for (const id of writtenBy(step)) {
      const location = reused !== undefined && id === firstResult(step) ? locations.get(reused) : undefined;
      locations.set(id, location ?? emitter.allocate(tape.values[id]!));
    }
    for (const temp of isInverse ? [] : (node.op.forwardTemps ?? [])) {
      temps.set(temp, emitter.allocate(slotSpec(tape, node, temp)!));
    }
    const context = launchContext(node, emitter.limits, (slot) => slotSpec(tape, node, slot), {
      inPlace: reused !== undefined,
    });
    const launches = isInverse ? node.op.inverse!.launches(context) : node.op.forward(context);
    const resolve = (slot: string) => [locate(node, slot, locations, temps), slotSpec(tape, node, slot)!] as const;
    emitter.emit(launches, node, phase, resolve, node.op.flops(context));
    after?.(node);
    for (const id of readBy(step)) readers.set(id, (readers.get(id) ?? 0) - 1);
  }
}

function locate(node: Node, slot: string, locations: Locations, temps: ReadonlyMap<string, Location>): Location {
  const location = temps.get(slot) ?? locations.get(forwardValue(node, slot) ?? -1);
  if (location) return location;
  throw new Error(`${node.op.name} (${node.label}) binds ${slot}, which its forward pass does not have.`);
}

/** Number of slots of `steps` to which each value is bound, by value id. */
function countReaders(steps: readonly Step[]): Map<number, number> {
  const readers = new Map<number, number>();
  for (const id of steps.flatMap(readBy)) readers.set(id, (readers.get(id) ?? 0) + 1);
  return readers;
}

/** Id of the value that a step's first result may overwrite: an activation that nothing else reads, now or later. */
function reusableValue(
  tape: Tape,
  step: Step,
  readers: ReadonlyMap<number, number>,
  kept: ReadonlySet<number>,
  locations: Locations,
): number | undefined {
  const { node, isInverse } = step;
  const input = node.op.overwrites === undefined ? undefined : node.inputs[node.op.overwrites];
  const id = isInverse ? mainOutput(node) : input;
  if (id === undefined || kept.has(id) || readers.get(id) !== 1) return undefined;
  const value = tape.values[id]!;
  const output = tape.values[firstResult(step)]!;
  const fits = value.origin.kind === "node" && specBytes(value) === specBytes(output);
  return fits && locations.get(id)?.kind === "virtual" ? id : undefined;
}
