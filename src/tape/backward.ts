import type { Attributes, GradientRule } from "../op/declaration";
import { launchContext, specBytes } from "./emit";
import type { Emitter, Location, Locations, VirtualLocation } from "./emit";
import { slotSpec } from "./forward";
import type { Packing } from "./packing";
import { mainOutput } from "./reach";
import type { Recomputer } from "./recompute";
import { forwardValue, outputGradient } from "./saves";
import type { BackwardTask } from "./saves";
import type { Node, Tape, Value } from "./tape";

/** The gradient of one value, or of several: where residual paths meet, both share one buffer for a while. */
interface Gradient {
  readonly location: Location;
  /** Ids of the values whose gradient this is and which have not been differentiated yet. */
  readonly owners: Set<number>;
}

/**
 * Emits the backward launches, from the loss to the inputs. Gradients of one value are added in place wherever nothing else
 * still reads the buffer; a gradient that passes through an op unchanged costs nothing.
 */
export class BackwardEmitter {
  /** The gradients that exist now, by value id. */
  #gradients = new Map<number, Gradient>();
  /** The temps of the current node. */
  #temps = new Map<string, Location>();
  /** Names of parameters whose gradient this pass has written. */
  #written = new Set<string>();

  constructor(
    private readonly tape: Tape,
    private readonly tasks: readonly BackwardTask[],
    private readonly locations: Locations,
    /** Ids of the values that are read after the run. */
    private readonly outputs: ReadonlySet<number>,
    private readonly emitter: Emitter,
    private readonly addToGradients: boolean,
    private readonly recomputer: Recomputer,
    private readonly packing: Packing,
  ) {}

  /** Emits everything, starting from the gradient of the loss with respect to itself. */
  emit(loss: Value, lossGradient: Location): void {
    this.#gradients.set(loss.id, { location: lossGradient, owners: new Set([loss.id]) });
    this.tasks.forEach((task, index) => {
      this.recomputer.before(index);
      for (const slot of task.reads) this.packing.before(forwardValue(task.node, slot) ?? -1, task.node);
      if (task.temp !== undefined) this.#emitTemp(task.node, task.temp);
      else if (task.rule) this.#emitRule(task, task.rule, index);
      if (this.tasks[index + 1]?.node !== task.node) this.#finish(task.node);
    });
  }

  #finish(node: Node): void {
    const output = mainOutput(node);
    this.#gradients.get(output)?.owners.delete(output);
    this.#gradients.delete(output);
    this.#temps.clear();
  }

  #emitTemp(node: Node, name: string): void {
    this.#temps.set(name, this.emitter.allocate(slotSpec(this.tape, node, name)!));
    const temp = node.op.temps?.[name];
    this.#launch(node, temp, new Map());
  }

  #emitRule(task: BackwardTask, rule: GradientRule<Attributes>, index: number): void {
    const { node } = task;
    const source = this.#gradients.get(mainOutput(node))!;
    if (rule.passesThrough) {
      rule.wrt.forEach((slot) => this.#pass(node, node.inputs[slot]!, source));
      return;
    }
    if (this.#accumulateInto(task, rule)) return;
    const targets = new Map(
      rule.wrt.map((slot) => [`d${slot}`, this.#newTarget(task, rule, node.inputs[slot]!, index)]),
    );
    const inPlace = rule.overwrites !== undefined && this.#isTakeover(task, rule, targets);
    this.#launch(node, rule, targets, { inPlace });
    rule.wrt.forEach((slot) => this.#merge(node, node.inputs[slot]!, targets.get(`d${slot}`)!));
  }

  /** Lets a rule for one input add to that input's existing gradient, if its kernel can and nothing else reads it. */
  #accumulateInto(task: BackwardTask, rule: GradientRule<Attributes>): boolean {
    const [slot] = rule.wrt;
    if (slot === undefined || rule.wrt.length > 1 || !rule.accumulates) return false;
    const id = task.node.inputs[slot]!;
    const name = this.#parameterName(id);
    const existing = this.#gradients.get(id);
    const location: Location | undefined =
      name !== undefined
        ? { kind: "gradient", name }
        : existing && isExclusive(existing, id)
          ? existing.location
          : undefined;
    if (!location) return false;
    const accumulate = name === undefined || this.#mustAdd(name);
    const targets = new Map([[`d${slot}`, location]]);
    this.#launch(task.node, rule, targets, { accumulate });
    if (name !== undefined) this.#written.add(name);
    return true;
  }

  #newTarget(task: BackwardTask, rule: GradientRule<Attributes>, id: number, index: number): Location {
    const name = this.#parameterName(id);
    // A tensor in two slots of one rule gets two contributions, which must not be written to the same memory.
    const isAlone = rule.wrt.filter((slot) => task.node.inputs[slot] === id).length === 1;
    if (name !== undefined && isAlone && !this.#mustAdd(name)) return { kind: "gradient", name };
    return this.#takeover(task, rule, id, index) ?? this.emitter.allocate(this.tape.values[id]!);
  }

  /** The buffer that the gradient may overwrite: that of `dy` or of a slot that the rule reads, if nothing reads it later. */
  #takeover(task: BackwardTask, rule: GradientRule<Attributes>, id: number, index: number): Location | undefined {
    const slot = rule.overwrites;
    if (slot === undefined || rule.wrt.length !== 1) return undefined;
    const later = this.tasks.slice(index + 1);
    const spec = slotSpec(this.tape, task.node, slot)!;
    if (specBytes(spec) !== specBytes(this.tape.values[id]!)) return undefined;
    if (slot === outputGradient(task.node)) {
      const source = this.#gradients.get(mainOutput(task.node))!;
      const isReadLater = later.some(({ node, reads }) => node === task.node && reads.includes(slot));
      return !isReadLater && isExclusive(source, mainOutput(task.node)) ? source.location : undefined;
    }
    const value = forwardValue(task.node, slot)!;
    const location = this.locations.get(value);
    const isReadLater =
      this.recomputer.needs(value) ||
      later.some(({ node, reads }) => reads.some((read) => forwardValue(node, read) === value));
    const isFree = this.tape.values[value]?.origin.kind === "node" && !this.outputs.has(value) && !isReadLater;
    return isFree && location?.kind === "virtual" ? location : undefined;
  }

  #isTakeover(task: BackwardTask, rule: GradientRule<Attributes>, targets: ReadonlyMap<string, Location>): boolean {
    const target = targets.get(`d${rule.wrt[0]!}`);
    return target?.kind === "virtual" && isSame(target, this.#locate(task.node, rule.overwrites!, new Map()));
  }

  /** Adds a contribution that was just written to the gradient of `id`. */
  #merge(node: Node, id: number, fresh: Location): void {
    const name = this.#parameterName(id);
    const spec = this.tape.values[id]!;
    if (name !== undefined) {
      if (fresh.kind !== "gradient") {
        this.emitter.accumulate(fresh, { kind: "gradient", name }, spec, this.#mustAdd(name), node);
      }
      this.#written.add(name);
      return;
    }
    const existing = this.#gradients.get(id);
    if (existing && isExclusive(existing, id)) {
      this.emitter.accumulate(fresh, existing.location, spec, true, node);
      return;
    }
    if (existing) {
      this.emitter.accumulate(existing.location, fresh, spec, true, node);
      existing.owners.delete(id);
    }
    this.#gradients.set(id, { location: fresh, owners: new Set([id]) });
  }

  /** Adds `source`, unchanged, to the gradient of `id`. */
  #pass(node: Node, id: number, source: Gradient): void {
    const name = this.#parameterName(id);
    const spec = this.tape.values[id]!;
    if (name !== undefined) {
      this.emitter.accumulate(source.location, { kind: "gradient", name }, spec, this.#mustAdd(name), node);
      this.#written.add(name);
      return;
    }
    const existing = this.#gradients.get(id);
    if (!existing) {
      source.owners.add(id);
      this.#gradients.set(id, source);
    } else if (isExclusive(existing, id)) {
      this.emitter.accumulate(source.location, existing.location, spec, true, node);
    } else {
      const fresh = this.emitter.allocate(spec);
      this.emitter.accumulate(existing.location, fresh, spec, false, node);
      this.emitter.accumulate(source.location, fresh, spec, true, node);
      existing.owners.delete(id);
      this.#gradients.set(id, { location: fresh, owners: new Set([id]) });
    }
  }

  #launch(
    node: Node,
    work: Pick<GradientRule<Attributes>, "launches" | "flops"> | undefined,
    targets: ReadonlyMap<string, Location>,
    flags: { accumulate?: boolean; inPlace?: boolean } = {},
  ): void {
    const context = launchContext(node, this.emitter.limits, (slot) => slotSpec(this.tape, node, slot), flags);
    const resolve = (slot: string) => [this.#locate(node, slot, targets), slotSpec(this.tape, node, slot)!] as const;
    this.emitter.emit(work?.launches?.(context) ?? [], node, "backward", resolve, work?.flops?.(context));
  }

  #locate(node: Node, slot: string, targets: ReadonlyMap<string, Location>): Location {
    const dy = slot === outputGradient(node) ? this.#gradients.get(mainOutput(node))?.location : undefined;
    const location =
      targets.get(slot) ?? this.#temps.get(slot) ?? dy ?? this.locations.get(forwardValue(node, slot) ?? -1);
    if (location) return location;
    throw new Error(`${node.op.name} (${node.label}) binds ${slot}, which its backward pass does not have.`);
  }

  #parameterName(id: number): string | undefined {
    const origin = this.tape.values[id]?.origin;
    return origin?.kind === "parameter" ? origin.name : undefined;
  }

  /** Whether a parameter's gradient already holds a contribution of this pass, or of an earlier micro-batch. */
  #mustAdd(name: string): boolean {
    return this.addToGradients || this.#written.has(name);
  }
}

/** Whether the buffer holds the gradient of `id` and nothing else. */
const isExclusive = ({ location, owners }: Gradient, id: number): boolean =>
  location.kind === "virtual" && owners.size === 1 && owners.has(id);

const isSame = (a: VirtualLocation, b: Location): boolean => b.kind === "virtual" && a.id === b.id;
