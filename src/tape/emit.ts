import { accumulateLaunches } from "../op/accumulate";
import { tensorBytes } from "../base/dtype";
import { elements } from "../base/shape";
import type { LaunchContext, TensorSpec } from "../op/declaration";
import type { Launch } from "../op/launch";
import type { Limits } from "../op/limits";
import type { Node } from "./tape";

/** A buffer of the plan, by its virtual id. */
export interface VirtualLocation {
  readonly kind: "virtual";
  readonly id: number;
}

/** Memory that a launch binds to a slot: a buffer of the plan, or a tensor that outlives the plan. */
export type Location =
  | VirtualLocation
  | { readonly kind: "parameter"; readonly name: string }
  | { readonly kind: "gradient"; readonly name: string };

/** Location of each value of the tape that has one, by value id. */
export type Locations = Map<number, Location>;

/** A tensor of the plan before it is assigned a buffer. It must stay from its first launch to its last. */
export interface VirtualTensor {
  readonly id: number;
  readonly bytes: number;
  /** Index of the first launch that binds it. */
  first: number;
  /** Index of the last launch that binds it. */
  last: number;
  /** Whether the forward pass keeps it for a gradient. */
  saved: boolean;
}

/** A WGSL variable of a launch and the memory it is bound to. */
export interface Binding {
  readonly variable: string;
  readonly location: Location;
  readonly offset: number;
  readonly bytes: number;
}

export type Phase = "forward" | "recompute" | "backward";

/** A launch with its bindings, before virtual tensors are assigned buffers. */
export interface EmittedLaunch {
  readonly launch: Launch;
  readonly bindings: readonly Binding[];
  readonly node: Node;
  readonly phase: Phase;
  /** Floating-point operations: as the launch states them, else its share of those of the node's launches. */
  readonly flops: number;
}

/** Bytes of a tensor. */
export const specBytes = (spec: TensorSpec): number => tensorBytes(spec.dtype, spec.shape);

/** Collects launches and the virtual tensors that they bind. */
export class Emitter {
  readonly launches: EmittedLaunch[] = [];
  readonly virtuals: VirtualTensor[] = [];

  constructor(readonly limits: Limits) {}

  /** A new virtual tensor. */
  allocate(spec: TensorSpec): VirtualLocation {
    const id = this.virtuals.length;
    this.virtuals.push({ id, bytes: specBytes(spec), first: Infinity, last: -1, saved: false });
    return { kind: "virtual", id };
  }

  /** Makes a virtual tensor exist from before the first launch (an input). Other locations always exist. */
  keepFromStart(location: Location): void {
    if (location.kind === "virtual") this.virtuals[location.id]!.first = 0;
  }

  /** Makes a virtual tensor exist until after the last launch (an output). */
  keepToEnd(location: Location): void {
    if (location.kind === "virtual") this.virtuals[location.id]!.last = Infinity;
  }

  /** Marks a virtual tensor as one that the forward pass keeps for a gradient. */
  markSaved(location: Location): void {
    if (location.kind === "virtual") this.virtuals[location.id]!.saved = true;
  }

  /**
   * Appends launches.
   * @param resolve returns where a slot lies, and its shape and type.
   * @param flops floating-point operations of all of them.
   */
  emit(
    launches: readonly Launch[],
    node: Node,
    phase: Phase,
    resolve: (slot: string) => readonly [Location, TensorSpec],
    flops = 0,
  ): void {
    const stated = launches.map(({ variants = [] }) => variants[0]?.flops);
    const rest = stated.reduce<number>((left, each = 0) => left - each, flops);
    const share = Math.max(0, rest) / stated.filter((each) => each === undefined).length;
    for (const [index, launch] of launches.entries()) {
      const bindings = Object.entries(launch.bindings).map(([variable, bound]) => {
        const [location, spec] = resolve(typeof bound === "string" ? bound : bound.slot);
        this.#touch(location);
        const range = typeof bound === "string" ? { offset: 0, bytes: specBytes(spec) } : bound;
        return { variable, location, offset: range.offset, bytes: range.bytes };
      });
      this.launches.push({ launch, bindings, node, phase, flops: stated[index] ?? share });
    }
  }

  /** Appends launches of `target = source`, or `target += source` if `add`, for two tensors of the same shape. */
  accumulate(source: Location, target: Location, spec: TensorSpec, add: boolean, node: Node): void {
    const launches = accumulateLaunches("source", "target", elements(spec.shape), add, this.limits);
    this.emit(launches, node, "backward", (slot) => [slot === "source" ? source : target, spec]);
  }

  /** Extends a virtual tensor's life to the launch that is being emitted. */
  #touch(location: Location): void {
    if (location.kind !== "virtual") return;
    const virtual = this.virtuals[location.id]!;
    virtual.first = Math.min(virtual.first, this.launches.length);
    virtual.last = Math.max(virtual.last, this.launches.length);
  }
}

/** The context in which a node's launches are built. */
export function launchContext(
  node: Node,
  limits: Limits,
  specOf: (slot: string) => TensorSpec | undefined,
  flags: { accumulate?: boolean; inPlace?: boolean } = {},
): LaunchContext {
  return {
    attributes: node.attributes,
    limits,
    accumulate: flags.accumulate ?? false,
    inPlace: flags.inPlace ?? false,
    has: (slot) => specOf(slot) !== undefined,
    spec(slot) {
      const spec = specOf(slot);
      if (!spec) throw new Error(`${node.op.name} (${node.label}) has no slot ${slot}.`);
      return spec;
    },
  };
}
