import { FileFormatError } from "../base/errors";
import { columns, elements } from "../base/shape";
import type { Shape } from "../base/shape";
import type { Device } from "../gpu/device";
import type { ParameterSpec } from "../model/model";
import { Tensor } from "../tensor";

/** Elements of a tensor that are on the host at a time: 16 MiB as f32, beside the bytes that they are decoded from. */
export const WINDOW_ELEMENTS = 1 << 22;

/** Elements [first, end) of a tensor, row-major. Asked for in order, each once, so random numbers can be drawn. */
export type ElementSource = (first: number, end: number) => Float32Array | Promise<Float32Array>;

/** The driver copies what it is given, and keeps its copy until it has moved it: no more than this is under way. */
const IN_FLIGHT_BYTES = 1 << 26;

/** A weight, and the least magnitude in it. */
export interface Uploaded {
  readonly tensor: Tensor;
  readonly smallest: number;
}

/** Brings weights to the GPU in the formats that they are stored in, window by window: the host never holds a whole one. */
export class Uploader {
  #inFlightBytes = 0;

  constructor(
    private readonly device: Device,
    /** What errors call the place where the elements come from. */
    private readonly where: string,
    private readonly window = WINDOW_ELEMENTS,
  ) {}

  /**
   * One weight, which the caller owns.
   * @throws FileFormatError for a value that is not a finite number, OutOfMemoryError when memory runs out, and whatever
   * `source` throws.
   */
  async upload({ name, shape, dtype = "f32" }: Omit<ParameterSpec, "layer">, source: ElementSource): Promise<Uploaded> {
    const make = (): Tensor => new Tensor(this.device, shape, dtype, "weight");
    const tensor = await this.device.pool.checked(`${name} of ${this.where}`, make);
    let smallest = Infinity;
    try {
      for (const [first, end] of windows(shape, this.window)) {
        const data = await source(first, end);
        smallest = Math.min(smallest, checkedSmallest(data, first, `${name} in ${this.where}`));
        await this.#moved(tensor.fillRows(first / columns(shape), data));
      }
    } catch (failure) {
      tensor.dispose();
      throw failure;
    }
    return { tensor, smallest };
  }

  async #moved(bytes: number): Promise<void> {
    this.#inFlightBytes += bytes;
    if (this.#inFlightBytes < IN_FLIGHT_BYTES) return;
    this.#inFlightBytes = 0;
    await this.device.wait(this.device.pool.flush());
  }
}

/** Ranges of elements, whole rows each. An even number of rows, so that 16-bit rows of any length begin on a word. */
function* windows(shape: Shape, window: number): Generator<readonly [number, number]> {
  const count = elements(shape);
  const step = Math.max(2, 2 * Math.floor(window / columns(shape) / 2)) * columns(shape);
  for (let first = 0; first < count; first += step) yield [first, Math.min(count, first + step)];
}

/** The least magnitude. @throws FileFormatError for a value that is not a finite number. */
function checkedSmallest(data: Float32Array, first: number, what: string): number {
  let smallest = Infinity;
  for (let i = 0; i < data.length; i++) {
    const magnitude = Math.abs(data[i]!);
    if (magnitude < smallest) smallest = magnitude;
    if (magnitude < Infinity) continue;
    throw new FileFormatError(
      `${what} has ${String(data[i])} as its element ${first + i}.`,
      "The checkpoint is damaged, or its training diverged: fetch it again.",
    );
  }
  return smallest;
}
