import type { TensorData } from "../base/dtype";
import type { Shape } from "../base/shape";
import type { TensorSpec } from "../op/declaration";
import type { Launch } from "../op/launch";
import type { Limits } from "../op/limits";
import type { ActivationFormat } from "../op/pack";
import { DEFAULT_LIMITS } from "../op/limits";
import { BackwardEmitter } from "./backward";
import { assignBuffers } from "./buffers";
import type { PlannedBuffer } from "./buffers";
import { Emitter, launchContext, specBytes } from "./emit";
import type { Location, Locations, Phase } from "./emit";
import { emitSteps, slotSpec } from "./forward";
import { Packing, packedSpec } from "./packing";
import { ancestors, mainOutput, reach } from "./reach";
import { recomputation, Recomputer } from "./recompute";
import type { RecomputedSection } from "./recompute";
import { backwardTasks, saves } from "./saves";
import type { BackwardTask, Keeper } from "./saves";
import { firstResult, forwardStep } from "./steps";
import type { Node, Tape, Value } from "./tape";

/** Memory that a planned launch binds: a buffer of the plan, or a tensor that outlives the plan. */
export type Target =
  | { readonly kind: "buffer"; readonly index: number }
  | { readonly kind: "parameter"; readonly name: string }
  | { readonly kind: "gradient"; readonly name: string };

/** A launch with all its bindings. */
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
  /** Shape of the node's first output, or of what it changes in place. */
  readonly shape: Shape;
  /** Floating-point operations: as the launch states them, else its share of those of the node's launches. */
  readonly flops: number;
}

/** An input or output of a plan. */
export interface Port {
  readonly spec: TensorSpec;
  /** Index of the plan's buffer; -1 for an output that is a parameter. */
  readonly buffer: number;
}

/** An activation that is kept for the backward pass. */
export interface SavedValue {
  readonly value: Value;
  readonly bytes: number;
  readonly producer: Node;
  readonly keepers: readonly Keeper[];
}

/** A computation ready to run: launches in order, and the buffers that they share. It is plain data. */
export interface Plan {
  readonly launches: readonly PlannedLaunch[];
  readonly buffers: readonly PlannedBuffer[];
  readonly inputs: ReadonlyMap<string, Port>;
  /** Data of the inputs that are the same in every run, by name. */
  readonly constants: Readonly<Record<string, TensorData>>;
  readonly outputs: ReadonlyMap<string, Port>;
  /** The parameters that the plan binds. */
  readonly parameters: ReadonlyMap<string, TensorSpec>;
  /** The trainable parameters that get a gradient: those that influence the loss. */
  readonly gradients: ReadonlyMap<string, TensorSpec>;
  readonly saved: readonly SavedValue[];
  /** Values that reversible sections rebuild instead of keeping. */
  readonly rebuilt: readonly Value[];
  /** Floating-point operations of one run. */
  readonly flops: { readonly forward: number; readonly recompute: number; readonly backward: number };
  /** Index of the launch from which on all buffers exist at the same time. */
  readonly peakLaunch: number;
  /** Whether inputs are copied from a staging buffer, so that the plan can follow others within one submit. */
  readonly isStaged: boolean;
}

export interface PlanOptions {
  /** Values to read after the run, by the name of the plan's output. */
  readonly outputs: Readonly<Record<string, Value>>;
  /** The scalar to differentiate. Without it there is no backward pass. */
  readonly loss?: Value;
  /** Names of the parameters that want a gradient. */
  readonly trainable?: ReadonlySet<string>;
  /** Whether to add to the gradients instead of overwriting them (later micro-batches of a step). Default false. */
  readonly addToGradients?: boolean;
  /** Names of sections to recompute in the backward pass instead of keeping their activations. Default none. */
  readonly recompute?: ReadonlySet<string>;
  /** Whether values of `Tape.rebuilt` are rebuilt; else they are kept, as by plain recomputation. Default true. */
  readonly rebuild?: boolean;
  /** How kept activations are stored until gradients read them. Default f32. */
  readonly activations?: ActivationFormat;
  /** Whether to run every node of the tape, including those that only change parameters in place. Default false. */
  readonly effects?: boolean;
  /** Whether the plan must be able to follow others within one submit. Meant for small inputs. Default false. */
  readonly staged?: boolean;
  /** Limits of the device. Default WebGPU's guaranteed ones. */
  readonly limits?: Limits;
}

/** Floating-point operations of one run of a plan. */
export const totalFlops = ({ flops }: Pick<Plan, "flops">): number => flops.forward + flops.recompute + flops.backward;

/** Name of the input for the gradient of the loss with respect to itself: 1, or a loss scale. */
export const LOSS_GRADIENT = "loss gradient";

/** Plans a tape for a set of trainable parameters. This is a pure function: the same arguments give the same plan. */
export function plan(tape: Tape, options: PlanOptions): Plan {
  const emitter = new Emitter(options.limits ?? DEFAULT_LIMITS);
  const tasks = planTasks(tape, options);
  const recomputed = options.recompute ?? new Set<string>();
  const rebuilds = (options.rebuild ?? true) ? tape.rebuilt : new Map<number, number>();
  const { kept, sections } = recomputation(tape, tasks, saves(tape, tasks), { chosen: recomputed, rebuilds });
  const results = [...Object.values(options.outputs), ...(options.loss ? [options.loss] : [])];
  const nodes = options.effects ? tape.nodes : ancestors(tape, results);
  const locations: Locations = new Map();
  const inputs = locateExternals(tape, nodes, locations, emitter);
  const outputIds = new Set(Object.values(options.outputs).map(({ id }) => id));
  const { activations = "f32" } = options;
  const unpacked = new Set([...outputIds, ...startsOfInverses(sections.values())]);
  const packed = activations === "f32" ? new Set<number>() : packable(tape, kept, unpacked);
  const packing = new Packing(tape, activations, packed, locations, emitter);
  const notOverwritten = new Set([...[...kept.keys()].filter((id) => !packed.has(id)), ...outputIds]);
  emitSteps(tape, nodes.map(forwardStep), locations, notOverwritten, emitter, { after: (node) => packing.after(node) });
  for (const id of outputIds) emitter.keepToEnd(locations.get(id)!);
  for (const id of kept.keys()) emitter.markSaved(packing.location(id)!);
  if (options.loss && tasks.length > 0) {
    const lossGradient = emitter.allocate(options.loss);
    emitter.keepFromStart(lossGradient);
    inputs.set(LOSS_GRADIENT, [lossGradient, options.loss]);
    const recomputer = new Recomputer(
      tape,
      tasks,
      recomputed,
      { kept, sections },
      locations,
      outputIds,
      emitter,
      packing,
    );
    const adds = options.addToGradients ?? false;
    const backward = new BackwardEmitter(tape, tasks, locations, outputIds, emitter, adds, recomputer, packing);
    backward.emit(options.loss, lossGradient);
  }
  const { toPort, launches, buffers, peakLaunch } = assemble(tape, emitter);
  return {
    launches,
    buffers,
    peakLaunch,
    inputs: new Map([...inputs].map(([name, [location, spec]]) => [name, toPort(location, spec)])),
    constants: Object.fromEntries([...tape.constants].filter(([name]) => inputs.has(name))),
    outputs: new Map(
      Object.entries(options.outputs).map(([name, value]) => [name, toPort(locations.get(value.id)!, value)]),
    ),
    parameters: boundParameters(tape, nodes),
    gradients: parametersWithGradient(tape, tasks),
    saved: savedValues(tape, kept, packed),
    rebuilt: [...sections.values()].flatMap(({ steps }) =>
      steps.filter(({ isInverse }) => isInverse).map((step) => tape.values[firstResult(step)]!),
    ),
    flops: countFlops(tape, nodes, tasks, [...sections.values()]),
    isStaged: options.staged ?? false,
  };
}

function planTasks(tape: Tape, { loss, trainable }: PlanOptions): BackwardTask[] {
  return loss && trainable ? backwardTasks(tape, loss, reach(tape, loss, trainable)) : [];
}

/**
 * Adds the locations of the parameters and inputs that `nodes` read. Every input gets a virtual tensor that exists before
 * the first launch; these are returned by name.
 */
function locateExternals(
  tape: Tape,
  nodes: readonly Node[],
  locations: Locations,
  emitter: Emitter,
): Map<string, readonly [Location, TensorSpec]> {
  const inputs = new Map<string, readonly [Location, TensorSpec]>();
  for (const id of new Set(nodes.flatMap((node) => Object.values(node.inputs)))) {
    const value = tape.values[id]!;
    if (value.origin.kind === "parameter") locations.set(id, { kind: "parameter", name: value.origin.name });
    if (value.origin.kind !== "input") continue;
    const location = emitter.allocate(value);
    emitter.keepFromStart(location);
    locations.set(id, location);
    inputs.set(value.origin.name, [location, value]);
  }
  return inputs;
}

/** Assigns buffers to everything that was emitted. */
function assemble(
  tape: Tape,
  emitter: Emitter,
): Pick<Plan, "launches" | "buffers" | "peakLaunch"> & {
  readonly toPort: (location: Location, spec: TensorSpec) => Port;
} {
  const count = Math.max(1, emitter.launches.length);
  for (const virtual of emitter.virtuals) {
    // Outputs live to the end, and inputs that nothing binds for one launch.
    virtual.last = Math.min(Math.max(virtual.last, virtual.first), count - 1);
  }
  const bound = emitter.virtuals.filter(({ first }) => first < count);
  const { buffers, bufferOf, peakLaunch } = assignBuffers(bound, emitter.virtuals.length, count);
  const target = (location: Location): Target =>
    location.kind === "virtual" ? { kind: "buffer", index: bufferOf[location.id]! } : location;
  const launches = emitter.launches.map(({ launch, node, phase, flops, bindings }) => ({
    launch,
    flops,
    shape: shapeOf(tape, node),
    node,
    phase,
    bindings: bindings.map(({ variable, location, offset, bytes }) => {
      return { variable, offset, bytes, target: target(location) };
    }),
  }));
  const toPort = (location: Location, spec: TensorSpec): Port => {
    return { spec, buffer: location.kind === "virtual" ? bufferOf[location.id]! : -1 };
  };
  return { launches, buffers, peakLaunch, toPort };
}

/** The shape of a node's first output, or of the first input that it changes in place. */
function shapeOf(tape: Tape, { op, inputs, outputs }: Node): Shape {
  const mutated = Object.keys(op.inputs).find((slot) => op.inputs[slot]?.mutated && inputs[slot] !== undefined);
  const id = op.outputs[0] === undefined ? inputs[mutated ?? ""] : outputs[op.outputs[0]];
  return id === undefined ? [] : tape.values[id]!.shape;
}

function boundParameters(tape: Tape, nodes: readonly Node[]): Map<string, TensorSpec> {
  const parameters = new Map<string, TensorSpec>();
  for (const id of nodes.flatMap((node) => Object.values(node.inputs))) {
    const value = tape.values[id]!;
    if (value.origin.kind === "parameter") parameters.set(value.origin.name, value);
  }
  return parameters;
}

function parametersWithGradient(tape: Tape, tasks: readonly BackwardTask[]): Map<string, TensorSpec> {
  const parameters = new Map<string, TensorSpec>();
  for (const { node, rule } of tasks) {
    for (const slot of rule?.wrt ?? []) {
      const value = tape.values[node.inputs[slot]!]!;
      if (value.origin.kind === "parameter") parameters.set(value.origin.name, value);
    }
  }
  return parameters;
}

/** Ids of the values from which sections with inverses start: an inverse would enlarge what packing rounds away. */
function startsOfInverses(sections: Iterable<RecomputedSection>): number[] {
  return [...sections].filter(({ steps }) => steps.some(({ isInverse }) => isInverse)).flatMap(({ from }) => [...from]);
}

/** Ids of the kept values that may be packed: nodes' first outputs in f32, but for those that must stay as they are. */
function packable(
  tape: Tape,
  kept: ReadonlyMap<number, readonly Keeper[]>,
  unpacked: ReadonlySet<number>,
): ReadonlySet<number> {
  const isMainOutput = (id: number): boolean => {
    const { origin, dtype } = tape.values[id]!;
    return origin.kind === "node" && dtype === "f32" && mainOutput(tape.nodes[origin.node]!) === id;
  };
  return new Set([...kept.keys()].filter((id) => isMainOutput(id) && !unpacked.has(id)));
}

function savedValues(
  tape: Tape,
  kept: ReadonlyMap<number, readonly Keeper[]>,
  packed: ReadonlySet<number>,
): SavedValue[] {
  return [...kept].flatMap(([id, keepers]) => {
    const value = tape.values[id]!;
    if (value.origin.kind !== "node") return [];
    const bytes = specBytes(packed.has(id) ? packedSpec(value) : value);
    return { value, bytes, producer: tape.nodes[value.origin.node]!, keepers };
  });
}

function countFlops(
  tape: Tape,
  nodes: readonly Node[],
  tasks: readonly BackwardTask[],
  sections: readonly RecomputedSection[],
): Plan["flops"] {
  const context = (node: Node) => launchContext(node, DEFAULT_LIMITS, (slot) => slotSpec(tape, node, slot));
  const sum = (values: number[]): number => values.reduce((a, b) => a + b, 0);
  const forward = (node: Node): number => node.op.flops(context(node));
  return {
    forward: sum(nodes.map(forward)),
    // An inverse takes as many operations as its op.
    recompute: sum(sections.flatMap(({ steps }) => steps.map(({ node }) => forward(node)))),
    backward: sum(tasks.map(({ node, rule, temp }) => (rule ?? node.op.temps?.[temp!])?.flops?.(context(node)) ?? 0)),
  };
}
