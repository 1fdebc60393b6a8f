import { elements } from "../base/shape";
import type { TensorSpec } from "../op/declaration";
import { packLaunches } from "../op/pack";
import type { ActivationFormat } from "../op/pack";
import type { Emitter, Location, Locations } from "./emit";
import { mainOutput } from "./reach";
import type { Node, Tape } from "./tape";

/**
 * Keeps activations in 16 bits. A value that a gradient will read is packed as soon as it is computed, and unpacked before
 * the first gradient that reads it; the forward pass itself reads f32. Only nodes' main outputs are packed: statistics
 * (log-sum-exps, rank-wide values) stay f32.
 */
export class Packing {
  readonly #packed = new Map<number, Location>();
  readonly #unpacked = new Set<number>();

  constructor(
    private readonly tape: Tape,
    private readonly format: ActivationFormat,
    /** Ids of the saved values to pack; none where the format is f32. */
    private readonly values: ReadonlySet<number>,
    private readonly locations: Locations,
    private readonly emitter: Emitter,
  ) {}

  /** Where a saved value lies between the forward and the backward pass. */
  location(id: number): Location | undefined {
    return this.#packed.get(id) ?? this.locations.get(id);
  }

  /** Packs the output of a node whose forward launches were just emitted, if it is one of the values to pack. */
  after(node: Node): void {
    const id = mainOutput(node);
    const wide = this.locations.get(id);
    if (!this.values.has(id) || !wide) return;
    const packed = this.emitter.allocate(packedSpec(this.tape.values[id]!));
    this.#packed.set(id, packed);
    this.#emit("pack", id, wide, packed, node);
  }

  /** Unpacks a value that the next launches of `node` read. */
  before(id: number, node: Node): void {
    const packed = this.#packed.get(id);
    if (!packed || this.#unpacked.has(id)) return;
    this.#unpacked.add(id);
    const wide = this.emitter.allocate(this.tape.values[id]!);
    this.locations.set(id, wide);
    this.#emit("unpack", id, wide, packed, node);
  }

  #emit(entry: "pack" | "unpack", id: number, wide: Location, packed: Location, node: Node): void {
    if (this.format === "f32") return;
    const spec = this.tape.values[id]!;
    const launches = packLaunches(entry, elements(spec.shape), this.format, this.emitter.limits);
    this.emitter.emit(launches, node, entry === "pack" ? "forward" : "backward", (slot) =>
      slot === "x" ? [wide, spec] : [packed, packedSpec(spec)],
    );
  }
}

/** Shape and type of a packed tensor: two values a word. */
export const packedSpec = ({ shape }: TensorSpec): TensorSpec => ({
  shape: [Math.ceil(elements(shape) / 2)],
  dtype: "u32",
});
