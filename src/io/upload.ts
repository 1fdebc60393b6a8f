import { DtypeError, FileFormatError } from "../base/errors";
import { OVERFLOW } from "../base/packed";
import type { WeightFormat } from "../base/packed";
import { columns, elements } from "../base/shape";
import type { Shape } from "../base/shape";
import type { Device } from "../gpu/device";
import type { ParameterSpec } from "../model/model";
import { Tensor } from "../tensor";

/** Elements of a tensor that are on the host at a time: 16 MiB as f32, in addition to the bytes that they are decoded from. */
export const WINDOW_ELEMENTS = 1 << 22;

/** Gives elements [first, end) of a tensor, row-major. Elements are requested in order and once, so they may be random. */
export type ElementSource = (first: number, end: number) => Float32Array | Promise<Float32Array>;

/** The driver keeps a copy of written data until it has transferred it. The total size of these copies stays below this. */
const IN_FLIGHT_BYTES = 1 << 26;

/** A weight on the GPU, and the smallest magnitude of its elements with what is added to them. */
export interface Uploaded {
  readonly tensor: Tensor;
  readonly smallest: number;
}

/** Uploads weights to the GPU and encodes them in their formats, one window after the other: a weight need not fit on the host. */
export class Uploader {
  #inFlightBytes = 0;

  constructor(
    private readonly device: Device,
    /** Where the elements come from, for error messages. */
    private readonly where: string,
    private readonly window = WINDOW_ELEMENTS,
  ) {}

  /**
   * Uploads a weight. The caller owns the tensor.
   * @throws FileFormatError for a value that is not finite, DtypeError for one that the weight's format does not hold,
   * OutOfMemoryError, and what `source` throws.
   */
  async upload(spec: Omit<ParameterSpec, "layer">, source: ElementSource): Promise<Uploaded> {
    const { name, shape, dtype = "f32", offset = 0 } = spec;
    const make = (): Tensor => new Tensor(this.device, shape, dtype, "weight");
    const tensor = await this.device.pool.checked(`${name} of ${this.where}`, make);
    let smallest = Infinity;
    try {
      for (const [first, end] of windows(shape, this.window)) {
        const data = await source(first, end);
        const what = `${name} in ${this.where}`;
        smallest = Math.min(smallest, checkedSmallest(data, first, offset, what));
        checkRange(data, first, dtype, what);
        await this.#throttle(tensor.fillRows(first / columns(shape), data));
      }
    } catch (failure) {
      tensor.dispose();
      throw failure;
    }
    return { tensor, smallest };
  }

  /** Waits for the driver if too many bytes are in flight. */
  async #throttle(bytes: number): Promise<void> {
    this.#inFlightBytes += bytes;
    if (this.#inFlightBytes < IN_FLIGHT_BYTES) return;
    this.#inFlightBytes = 0;
    await this.device.wait(this.device.pool.flush());
  }
}

/** Ranges of complete rows. Their number of rows is even, so that in 16-bit formats every range begins at a full word. */
function* windows(shape: Shape, window: number): Generator<readonly [number, number]> {
  const count = elements(shape);
  const step = Math.max(2, 2 * Math.floor(window / columns(shape) / 2)) * columns(shape);
  for (let first = 0; first < count; first += step) yield [first, Math.min(count, first + step)];
}

/** The smallest magnitude after `offset` is added. @throws FileFormatError for a value that is not finite. */
function checkedSmallest(data: Float32Array, first: number, offset: number, what: string): number {
  let smallest = Infinity;
  for (let i = 0; i < data.length; i++) {
    const magnitude = Math.abs(data[i]! + offset);
    if (magnitude < smallest) smallest = magnitude;
    if (magnitude < Infinity) continue;
    throw new FileFormatError(
      `${what} has ${String(data[i])} as its element ${first + i}.`,
      "The checkpoint is damaged, or its training diverged: download it again.",
    );
  }
  return smallest;
}

/** @throws DtypeError for a value that the format would round to infinity. */
function checkRange(data: Float32Array, first: number, format: WeightFormat, what: string): void {
  const limit = OVERFLOW[format];
  const large = limit === Infinity ? -1 : data.findIndex((value) => Math.abs(value) >= limit);
  if (large < 0) return;
  throw new DtypeError(
    `${what} has ${String(data[large])} as its element ${first + large}, which ${format} cannot hold.`,
    `Load the model with weights: "${format === "f16" ? "bf16" : "int8"}" or "f32".`,
  );
}
