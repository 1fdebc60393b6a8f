import { elements } from "../base/shape";
import type { TensorSpec } from "../op/declaration";
import { packLaunches } from "../op/pack";
import type { ActivationFormat } from "../op/pack";
import type { Emitter, Place } from "./emit";
import { mainOutput } from "./reach";
import type { Node, Tape } from "./tape";

/**
 * Keeps activations in 16 bits: what a gradient will read is packed when it has been made and widened again before the
 * first gradient that reads it. The forward pass itself sees f32. Statistics (log-sum-exps, rank-wide values) stay f32: only
 * nodes' main outputs are packed.
 */
export class Packing {
  readonly #packed = new Map<number, Place & { kind: "virtual" }>();
  readonly #wide = new Set<number>();

  constructor(
    private readonly tape: Tape,
    private readonly format: ActivationFormat,
    /** Kept values that are to be packed. */
    private readonly chosen: ReadonlySet<number>,
    private readonly places: Map<number, Place>,
    private readonly emitter: Emitter,
  ) {}

  /** Where a kept value lies between forward and backward. */
  place(id: number): Place | undefined {
    return this.#packed.get(id) ?? this.places.get(id);
  }

  /** Packs what a node has just made, if it is to be kept so. */
  after(node: Node): void {
    const id = mainOutput(node);
    const source = this.places.get(id);
    if (this.format === "f32" || !this.chosen.has(id) || !source) return;
    const packed = this.emitter.allocate(packedSpec(this.tape.values[id] as TensorSpec));
    this.#packed.set(id, packed);
    this.#emit("pack", id, source, packed, node);
  }

  /** Widens a value that is about to be read. */
  before(id: number, node: Node): void {
    const packed = this.#packed.get(id);
    if (!packed || this.#wide.has(id)) return;
    this.#wide.add(id);
    const wide = this.emitter.allocate(this.tape.values[id] as TensorSpec);
    this.places.set(id, wide);
    this.#emit("unpack", id, wide, packed, node);
  }

  #emit(entry: "pack" | "unpack", id: number, wide: Place, packed: Place, node: Node): void {
    const spec = this.tape.values[id] as TensorSpec;
    const format = this.format as Exclude<ActivationFormat, "f32">;
    const launches = packLaunches(entry, elements(spec.shape), format, this.emitter.limits);
    this.emitter.emit(launches, node, entry === "pack" ? "forward" : "backward", (slot) =>
      slot === "x" ? [wide, spec] : [packed, packedSpec(spec)],
    );
  }
}

/** Two values a word. */
export const packedSpec = ({ shape }: TensorSpec): TensorSpec => ({
  shape: [Math.ceil(elements(shape) / 2)],
  dtype: "u32",
});
