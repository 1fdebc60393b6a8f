import { accumulateLaunches } from "../op/accumulate";
import { tensorBytes } from "../base/dtype";
import { elements } from "../base/shape";
import type { LaunchContext, TensorSpec } from "../op/declaration";
import type { Launch } from "../op/launch";
import type { Limits } from "../op/limits";
import type { Node } from "./tape";

/** Where a launch finds a slot: a buffer of the plan (by virtual id), or memory that outlives the plan. */
export type Place =
  | { readonly kind: "virtual"; readonly id: number }
  | { readonly kind: "parameter"; readonly name: string }
  | { readonly kind: "gradient"; readonly name: string };

/** A tensor of the plan before it is given a buffer: its bytes and the steps between which it must stay. */
export interface Virtual {
  readonly id: number;
  readonly bytes: number;
  first: number;
  last: number;
  saved: boolean;
}

/** One WGSL variable of a step and what it is bound to. */
export interface Binding {
  readonly variable: string;
  readonly place: Place;
  readonly offset: number;
  readonly bytes: number;
}

export type Phase = "forward" | "recompute" | "backward";

/** One dispatch of a plan. */
export interface Step {
  readonly launch: Launch;
  readonly bindings: readonly Binding[];
  readonly node: Node;
  readonly phase: Phase;
}

/** Bytes of a tensor. */
export const specBytes = (spec: TensorSpec): number => tensorBytes(spec.dtype, spec.shape);

/** Collects steps and the virtual buffers that they use. */
export class Emitter {
  readonly steps: Step[] = [];
  readonly virtuals: Virtual[] = [];

  constructor(readonly limits: Limits) {}

  /** A new buffer of the plan. */
  allocate(spec: TensorSpec): Place & { kind: "virtual" } {
    const id = this.virtuals.length;
    this.virtuals.push({ id, bytes: specBytes(spec), first: Infinity, last: -1, saved: false });
    return { kind: "virtual", id };
  }

  virtual(place: Place & { kind: "virtual" }): Virtual {
    return this.virtuals[place.id]!;
  }

  /** Keeps a buffer from before the first step (an input). */
  fromStart(place: Place): void {
    if (place.kind === "virtual") this.virtual(place).first = 0;
  }

  /** Keeps a buffer beyond the last step (an output). */
  toEnd(place: Place): void {
    if (place.kind === "virtual") this.virtual(place).last = Infinity;
  }

  /** Emits launches whose slots are resolved by `find`. */
  emit(launches: readonly Launch[], node: Node, phase: Phase, find: (slot: string) => [Place, TensorSpec]): void {
    for (const launch of launches) {
      const bindings = Object.entries(launch.bindings).map(([variable, target]) => {
        const range = typeof target === "string" ? undefined : target;
        const [place, spec] = find(range ? range.slot : (target as string));
        this.#touch(place);
        return { variable, place, offset: range?.offset ?? 0, bytes: range?.bytes ?? specBytes(spec) };
      });
      this.steps.push({ launch, bindings, node, phase });
    }
  }

  /** `target (+)= source` for two places of one shape. */
  accumulate(source: Place, target: Place, spec: TensorSpec, add: boolean, node: Node): void {
    const launches = accumulateLaunches("source", "target", elements(spec.shape), add, this.limits);
    this.emit(launches, node, "backward", (slot) => [slot === "source" ? source : target, spec]);
  }

  #touch(place: Place): void {
    if (place.kind !== "virtual") return;
    const virtual = this.virtual(place);
    virtual.first = Math.min(virtual.first, this.steps.length);
    virtual.last = Math.max(virtual.last, this.steps.length);
  }
}

/** The context in which a node's launches are built. */
export function launchContext(
  node: Node,
  limits: Limits,
  spec: (slot: string) => TensorSpec | undefined,
  flags: { accumulate?: boolean; inPlace?: boolean } = {},
): LaunchContext<never> {
  return {
    attributes: node.attributes as never,
    limits,
    accumulate: flags.accumulate ?? false,
    inPlace: flags.inPlace ?? false,
    has: (slot) => spec(slot) !== undefined,
    spec(slot) {
      const found = spec(slot);
      if (!found) throw new Error(`${node.op.name} (${node.label}) has no slot ${slot}.`);
      return found;
    },
  };
}
