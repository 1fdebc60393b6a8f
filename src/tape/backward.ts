import type { GradientRule } from "../op/declaration";
import { launchContext, specBytes } from "./emit";
import type { Place, Emitter } from "./emit";
import { slotSpec } from "./forward";
import type { Places } from "./forward";
import type { Packing } from "./packing";
import { mainOutput } from "./reach";
import type { Recomputer } from "./recompute";
import { forwardValue, outputGradient } from "./saves";
import type { BackwardTask } from "./saves";
import type { Node, Tape, Value } from "./tape";

/** The gradient of one or several values: where residual paths meet, one buffer is the gradient of both for a while. */
interface Gradient {
  readonly place: Place;
  /** Values whose gradient this buffer holds and which have not been differentiated yet. */
  readonly owners: Set<number>;
}

/**
 * Emits the backward launches, output to input. Gradients that meet are added in place wherever no one else still
 * reads them; a gradient that passes through an op unchanged costs nothing.
 */
export class BackwardEmitter {
  #gradients = new Map<number, Gradient>();
  #temps = new Map<string, Place>();
  #written = new Set<string>();

  constructor(
    private readonly tape: Tape,
    private readonly tasks: readonly BackwardTask[],
    private readonly places: Places,
    private readonly outputs: ReadonlySet<number>,
    private readonly emitter: Emitter,
    private readonly addToGradients: boolean,
    private readonly recomputer: Recomputer,
    private readonly packing: Packing,
  ) {}

  /** Emits everything, starting from the gradient of the loss with respect to itself. */
  emit(loss: Value, lossGradient: Place): void {
    this.#gradients.set(loss.id, { place: lossGradient, owners: new Set([loss.id]) });
    this.tasks.forEach((task, index) => {
      this.recomputer.before(task.node);
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

  #emitTemp(node: Node, temp: string): void {
    this.#temps.set(temp, this.emitter.allocate(slotSpec(this.tape, node, temp)!));
    const declared = node.op.temps?.[temp];
    this.#launch(node, (context) => declared?.launches(context) ?? [], new Map());
  }

  #emitRule(task: BackwardTask, rule: GradientRule<never>, index: number): void {
    const { node } = task;
    const source = this.#gradients.get(mainOutput(node))!;
    if (rule.passesThrough) {
      rule.wrt.forEach((slot) => this.#pass(node, node.inputs[slot]!, source));
      return;
    }
    const [only] = rule.wrt;
    if (rule.wrt.length === 1 && this.#accumulateInto(task, rule, node.inputs[only!]!)) return;
    const targets = new Map(
      rule.wrt.map((slot) => [`d${slot}`, this.#newTarget(task, rule, node.inputs[slot]!, index)]),
    );
    const inPlace = rule.overwrites !== undefined && this.#isTakeover(task, rule, targets);
    this.#launch(node, (context) => rule.launches?.(context) ?? [], targets, { inPlace });
    rule.wrt.forEach((slot) => this.#merge(node, node.inputs[slot]!, targets.get(`d${slot}`)!));
  }

  /** Lets the rule add to a gradient that exists already, if its kernel can and nobody else reads it. */
  #accumulateInto(task: BackwardTask, rule: GradientRule<never>, id: number): boolean {
    if (!rule.accumulates) return false;
    const name = this.#parameterName(id);
    const existing = this.#gradients.get(id);
    const place: Place | undefined =
      name !== undefined
        ? { kind: "gradient", name }
        : existing && isExclusive(existing, id)
          ? existing.place
          : undefined;
    if (!place) return false;
    const [slot] = rule.wrt;
    const accumulate = name === undefined || this.#mustAdd(name);
    this.#launch(task.node, (context) => rule.launches?.(context) ?? [], new Map([[`d${slot!}`, place]]), {
      accumulate,
    });
    if (name !== undefined) this.#written.add(name);
    return true;
  }

  #newTarget(task: BackwardTask, rule: GradientRule<never>, id: number, index: number): Place {
    const name = this.#parameterName(id);
    // One tensor in two slots of a rule has two contributions: neither may write where the other does.
    const isAlone = rule.wrt.filter((slot) => task.node.inputs[slot] === id).length === 1;
    if (name !== undefined && isAlone && !this.#mustAdd(name)) return { kind: "gradient", name };
    return this.#takeover(task, rule, id, index) ?? this.emitter.allocate(this.tape.values[id]!);
  }

  /** The buffer that the gradient may take over: `dy` or a read slot that nothing else reads any more. */
  #takeover(task: BackwardTask, rule: GradientRule<never>, id: number, index: number): Place | undefined {
    const slot = rule.overwrites;
    if (slot === undefined || rule.wrt.length !== 1) return undefined;
    const later = this.tasks.slice(index + 1);
    const spec = slotSpec(this.tape, task.node, slot)!;
    if (specBytes(spec) !== specBytes(this.tape.values[id]!)) return undefined;
    if (slot === outputGradient(task.node)) {
      const source = this.#gradients.get(mainOutput(task.node))!;
      const readLater = later.some((other) => other.node === task.node && other.reads.includes(slot));
      return !readLater && isExclusive(source, mainOutput(task.node)) ? source.place : undefined;
    }
    const value = forwardValue(task.node, slot)!;
    const place = this.places.get(value);
    const readLater =
      this.recomputer.needs(value) ||
      later.some((other) => other.reads.some((read) => forwardValue(other.node, read) === value));
    const free = this.tape.values[value]?.origin.kind === "node" && !this.outputs.has(value) && !readLater;
    return free && place?.kind === "virtual" ? place : undefined;
  }

  #isTakeover(task: BackwardTask, rule: GradientRule<never>, targets: ReadonlyMap<string, Place>): boolean {
    const slot = rule.overwrites!;
    const target = targets.get(`d${rule.wrt[0]!}`);
    return target?.kind === "virtual" && samePlace(target, this.#place(task.node, slot, new Map()));
  }

  /** Makes a freshly written buffer part of the gradient of `id`. */
  #merge(node: Node, id: number, fresh: Place): void {
    const name = this.#parameterName(id);
    const spec = this.tape.values[id]!;
    if (name !== undefined) {
      if (fresh.kind !== "gradient")
        this.emitter.accumulate(fresh, { kind: "gradient", name }, spec, this.#mustAdd(name), node);
      this.#written.add(name);
      return;
    }
    const existing = this.#gradients.get(id);
    if (existing && isExclusive(existing, id)) {
      this.emitter.accumulate(fresh, existing.place, spec, true, node);
      return;
    }
    if (existing) {
      this.emitter.accumulate(existing.place, fresh, spec, true, node);
      existing.owners.delete(id);
    }
    this.#gradients.set(id, { place: fresh, owners: new Set([id]) });
  }

  /** The gradient of `id` gains `source` unchanged. */
  #pass(node: Node, id: number, source: Gradient): void {
    const name = this.#parameterName(id);
    const spec = this.tape.values[id]!;
    if (name !== undefined) {
      this.emitter.accumulate(source.place, { kind: "gradient", name }, spec, this.#mustAdd(name), node);
      this.#written.add(name);
      return;
    }
    const existing = this.#gradients.get(id);
    if (!existing) {
      source.owners.add(id);
      this.#gradients.set(id, source);
    } else if (isExclusive(existing, id)) {
      this.emitter.accumulate(source.place, existing.place, spec, true, node);
    } else {
      const fresh = this.emitter.allocate(spec);
      this.emitter.accumulate(existing.place, fresh, spec, false, node);
      this.emitter.accumulate(source.place, fresh, spec, true, node);
      existing.owners.delete(id);
      this.#gradients.set(id, { place: fresh, owners: new Set([id]) });
    }
  }

  #launch(
    node: Node,
    build: (context: never) => Parameters<Emitter["emit"]>[0],
    targets: ReadonlyMap<string, Place>,
    flags: { accumulate?: boolean; inPlace?: boolean } = {},
  ): void {
    const context = launchContext(node, this.emitter.limits, (slot) => slotSpec(this.tape, node, slot), flags);
    this.emitter.emit(build(context as never), node, "backward", (slot) => [
      this.#place(node, slot, targets),
      slotSpec(this.tape, node, slot)!,
    ]);
  }

  #place(node: Node, slot: string, targets: ReadonlyMap<string, Place>): Place {
    const own = slot === outputGradient(node) ? this.#gradients.get(mainOutput(node))?.place : undefined;
    const place = targets.get(slot) ?? this.#temps.get(slot) ?? own ?? this.places.get(forwardValue(node, slot) ?? -1);
    if (!place)
      throw new Error(`${node.op.name} (${node.label}) binds ${slot}, which its backward pass does not have.`);
    return place;
  }

  #parameterName(id: number): string | undefined {
    const origin = this.tape.values[id]?.origin;
    return origin?.kind === "parameter" ? origin.name : undefined;
  }

  /** Whether a parameter's gradient already holds something of this step, or of an earlier micro-batch. */
  #mustAdd(name: string): boolean {
    return this.addToGradients || this.#written.has(name);
  }
}

const isExclusive = (gradient: Gradient, id: number): boolean =>
  gradient.place.kind === "virtual" && gradient.owners.size === 1 && gradient.owners.has(id);

const samePlace = (a: Place, b: Place): boolean => a.kind === "virtual" && b.kind === "virtual" && a.id === b.id;
