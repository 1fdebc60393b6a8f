import type { TensorSpec } from "../op/declaration";
import type { Launch } from "../op/launch";
import type { Limits } from "../op/limits";
import type { ActivationFormat } from "../op/pack";
import { DEFAULT_LIMITS } from "../op/limits";
import { BackwardEmitter } from "./backward";
import { Emitter, launchContext, specBytes } from "./emit";
import type { Phase, Place } from "./emit";
import { emitForward, slotSpec } from "./forward";
import { placeVirtuals } from "./place";
import type { PlannedBuffer } from "./place";
import { Packing, packedSpec } from "./packing";
import { ancestors, mainOutput, reach } from "./reach";
import { recomputation, Recomputer } from "./recompute";
import type { Recomputation } from "./recompute";
import { backwardTasks, saves } from "./saves";
import type { BackwardTask, Keeper } from "./saves";
import type { Node, Tape, Value } from "./tape";

/** What a binding of a planned launch points at. */
export type Target =
  | { readonly kind: "buffer"; readonly index: number }
  | { readonly kind: "parameter"; readonly name: string }
  | { readonly kind: "gradient"; readonly name: string };

/** One dispatch with everything it is bound to. */
export interface PlannedLaunch {
  readonly launch: Launch;
  readonly bindings: readonly {
    readonly variable: string;
    readonly target: Target;
    readonly offset: number;
    readonly bytes: number;
  }[];
  readonly node: Node;
  readonly phase: Phase;
}

/** A tensor that crosses the plan's border: given before a run, or read after it. */
export interface Port {
  readonly spec: TensorSpec;
  readonly buffer: number;
}

/** An activation that is kept for gradients. */
export interface SavedValue {
  readonly value: Value;
  readonly bytes: number;
  readonly producer: Node;
  readonly keepers: readonly Keeper[];
}

/** A computation ready to run: launches in order, and the buffers that they share. Pure data. */
export interface Plan {
  readonly launches: readonly PlannedLaunch[];
  readonly buffers: readonly PlannedBuffer[];
  readonly inputs: ReadonlyMap<string, Port>;
  readonly outputs: ReadonlyMap<string, Port>;
  /** Shapes of the parameters that the plan binds. */
  readonly parameters: ReadonlyMap<string, TensorSpec>;
  /** Trainable parameters that get a gradient: fewer than `trainable` where a tensor does not reach the loss. */
  readonly gradients: ReadonlyMap<string, TensorSpec>;
  readonly saved: readonly SavedValue[];
  readonly flops: { readonly forward: number; readonly recompute: number; readonly backward: number };
  /** The launch at which the last buffer comes into use: from there on all of them exist at once. */
  readonly peakLaunch: number;
  /** Inputs reach it from a buffer of its own, so that it can follow other plans within one submit. */
  readonly isStaged: boolean;
}

export interface PlanOptions {
  /** Values to read after the run, by the name under which to find them. */
  readonly outputs: Readonly<Record<string, Value>>;
  /** The scalar to differentiate; without it there is no backward pass. */
  readonly loss?: Value;
  readonly trainable?: ReadonlySet<string>;
  /** Add to the gradients instead of overwriting them (later micro-batches of one step). */
  readonly addToGradients?: boolean;
  /** Sections that are not kept but run again before their gradients. */
  readonly recompute?: ReadonlySet<string>;
  /** How kept activations are stored until their gradients read them. Default f32. */
  readonly activations?: ActivationFormat;
  /** Runs every node of the tape, for those that change parameters in place and have no output (optimizers). */
  readonly effects?: boolean;
  /** Makes a plan that can follow others within one submit, for small inputs. Default false. */
  readonly staged?: boolean;
  readonly limits?: Limits;
}

/** FLOPs of one run of a plan. */
export const totalFlops = ({ flops }: Pick<Plan, "flops">): number => flops.forward + flops.recompute + flops.backward;

/** Name of the input that holds the gradient of the loss with respect to itself: 1, or a loss scale. */
export const LOSS_GRADIENT = "loss gradient";

/** Plans a tape for a set of trainable parameters. Pure: the same tape and set give the same plan. */
export function plan(tape: Tape, options: PlanOptions): Plan {
  const emitter = new Emitter(options.limits ?? DEFAULT_LIMITS);
  const tasks = planTasks(tape, options);
  const chosen = options.recompute ?? new Set<string>();
  const remade = recomputation(tape, tasks, saves(tape, tasks), chosen);
  const { kept } = remade;
  const wantedValues = [...Object.values(options.outputs), ...(options.loss ? [options.loss] : [])];
  const nodes = options.effects ? tape.nodes : ancestors(tape, wantedValues);
  const places = new Map<number, Place>();
  const inputs = placeExternals(tape, nodes, places, emitter);
  const outputIds = new Set(Object.values(options.outputs).map((value) => value.id));
  const { activations = "f32" } = options;
  const packed = activations === "f32" ? new Set<number>() : packable(tape, kept, outputIds);
  const packing = new Packing(tape, activations, packed, places, emitter);
  const whole = new Set([...[...kept.keys()].filter((id) => !packed.has(id)), ...outputIds]);
  emitForward(tape, nodes, places, whole, emitter, { after: (node) => packing.after(node) });
  for (const id of outputIds) emitter.toEnd(places.get(id)!);
  for (const id of kept.keys()) markSaved(packing.place(id)!, emitter);
  if (options.loss && tasks.length > 0) {
    const seed = emitter.allocate(options.loss);
    emitter.fromStart(seed);
    inputs.set(LOSS_GRADIENT, [seed, options.loss]);
    const recomputer = new Recomputer(tape, chosen, remade, places, emitter, packing);
    const adds = options.addToGradients ?? false;
    const backward = new BackwardEmitter(tape, tasks, places, outputIds, emitter, adds, recomputer, packing);
    backward.emit(options.loss, seed);
  }
  return assemble(tape, options, { emitter, tasks, kept, nodes, places, inputs, remade, packed });
}

function planTasks(tape: Tape, { loss, trainable }: PlanOptions): BackwardTask[] {
  return loss && trainable ? backwardTasks(tape, loss, reach(tape, loss, trainable)) : [];
}

/** Parameters stay where they are; every input that is read gets a buffer before the first launch. */
function placeExternals(
  tape: Tape,
  nodes: readonly Node[],
  places: Map<number, Place>,
  emitter: Emitter,
): Map<string, [Place, TensorSpec]> {
  const inputs = new Map<string, [Place, TensorSpec]>();
  for (const id of new Set(nodes.flatMap((node) => Object.values(node.inputs)))) {
    const value = tape.values[id]!;
    if (value.origin.kind === "parameter") places.set(id, { kind: "parameter", name: value.origin.name });
    if (value.origin.kind !== "input") continue;
    const place = emitter.allocate(value);
    emitter.fromStart(place);
    places.set(id, place);
    inputs.set(value.origin.name, [place, value]);
  }
  return inputs;
}

function markSaved(place: Place, emitter: Emitter): void {
  if (place.kind === "virtual") emitter.virtual(place).saved = true;
}

interface Parts {
  readonly emitter: Emitter;
  readonly tasks: readonly BackwardTask[];
  readonly kept: ReadonlyMap<number, readonly Keeper[]>;
  readonly nodes: readonly Node[];
  readonly places: ReadonlyMap<number, Place>;
  readonly inputs: ReadonlyMap<string, [Place, TensorSpec]>;
  readonly remade: Recomputation;
  readonly packed: ReadonlySet<number>;
}

function assemble(tape: Tape, options: PlanOptions, parts: Parts): Plan {
  const { emitter } = parts;
  const count = Math.max(1, emitter.steps.length);
  for (const virtual of emitter.virtuals) {
    // An output lives to the end, an input that nothing binds for one step.
    virtual.last = Math.min(Math.max(virtual.last, virtual.first), count - 1);
  }
  const live = emitter.virtuals.filter((virtual) => virtual.first < count);
  const { buffers, bufferOf, lastNewAt } = placeVirtuals(live, emitter.virtuals.length, count);
  const port = ([place, spec]: [Place, TensorSpec]): Port => ({
    spec,
    buffer: place.kind === "virtual" ? bufferOf[place.id]! : -1,
  });
  const target = (place: Place): Target =>
    place.kind === "virtual" ? { kind: "buffer", index: bufferOf[place.id]! } : place;
  return {
    launches: emitter.steps.map((step) => ({
      launch: step.launch,
      node: step.node,
      phase: step.phase,
      bindings: step.bindings.map(({ place, ...rest }) => ({ ...rest, target: target(place) })),
    })),
    buffers,
    inputs: new Map([...parts.inputs].map(([name, entry]) => [name, port(entry)])),
    outputs: new Map(
      Object.entries(options.outputs).map(([name, value]) => [name, port([parts.places.get(value.id)!, value])]),
    ),
    parameters: boundTensors(tape, parts.nodes),
    gradients: gradientTensors(tape, parts.tasks),
    saved: savedValues(tape, parts.kept, parts.packed),
    flops: countFlops(tape, parts.nodes, parts.tasks, parts.remade),
    peakLaunch: lastNewAt,
    isStaged: options.staged ?? false,
  };
}

function boundTensors(tape: Tape, nodes: readonly Node[]): Map<string, TensorSpec> {
  const found = new Map<string, TensorSpec>();
  for (const id of nodes.flatMap((node) => Object.values(node.inputs))) {
    const value = tape.values[id]!;
    if (value.origin.kind === "parameter") found.set(value.origin.name, value);
  }
  return found;
}

function gradientTensors(tape: Tape, tasks: readonly BackwardTask[]): Map<string, TensorSpec> {
  const found = new Map<string, TensorSpec>();
  for (const { node, rule } of tasks) {
    for (const slot of rule?.wrt ?? []) {
      const value = tape.values[node.inputs[slot]!]!;
      if (value.origin.kind === "parameter") found.set(value.origin.name, value);
    }
  }
  return found;
}

/** Kept values that may be packed: nodes' main outputs in f32. */
function packable(
  tape: Tape,
  kept: ReadonlyMap<number, readonly Keeper[]>,
  outputs: ReadonlySet<number>,
): ReadonlySet<number> {
  const isMain = (id: number): boolean => {
    const { origin, dtype } = tape.values[id]!;
    return origin.kind === "node" && dtype === "f32" && mainOutput(tape.nodes[origin.node]!) === id;
  };
  return new Set([...kept.keys()].filter((id) => isMain(id) && !outputs.has(id)));
}

function savedValues(
  tape: Tape,
  kept: ReadonlyMap<number, readonly Keeper[]>,
  packed: ReadonlySet<number>,
): SavedValue[] {
  return [...kept].map(([id, keepers]) => {
    const value = tape.values[id] as Value & { origin: { kind: "node"; node: number } };
    const bytes = specBytes(packed.has(id) ? packedSpec(value) : value);
    return { value, bytes, producer: tape.nodes[value.origin.node]!, keepers };
  });
}

function countFlops(
  tape: Tape,
  nodes: readonly Node[],
  tasks: readonly BackwardTask[],
  { sections }: Recomputation,
): Plan["flops"] {
  const context = (node: Node) => launchContext(node, DEFAULT_LIMITS, (slot) => slotSpec(tape, node, slot));
  const sum = (values: number[]): number => values.reduce((a, b) => a + b, 0);
  return {
    forward: sum(nodes.map((node) => node.op.flops(context(node)))),
    recompute: sum([...sections.values()].flatMap((own) => own.nodes.map((node) => node.op.flops(context(node))))),
    backward: sum(
      tasks.map(({ node, rule, temp }) =>
        rule ? (rule.flops?.(context(node)) ?? 0) : (node.op.temps?.[temp!]?.flops?.(context(node)) ?? 0),
      ),
    ),
  };
}
