import { DisposedError, DtypeError, ShapeError } from "./base/errors";
import { tensorBytes } from "./base/dtype";
import type { Dtype } from "./base/dtype";
import { decodeWeight, encodeWeight, rowBytes } from "./base/packed";
import type { WeightFormat } from "./base/packed";
import { columns, elements, formatShape } from "./base/shape";
import type { Shape } from "./base/shape";
import type { Device } from "./gpu/device";
import type { Lifetime } from "./gpu/ledger";
import { readBuffer } from "./gpu/readback";
import type { Lease } from "./gpu/pool";

/** What a tensor is filled from. */
export type TensorData = Float32Array | Int32Array | Uint32Array;

/** A handle on GPU memory. Whoever makes one disposes of it (`using` does); any use after that throws. */
export class Tensor {
  #lease: Lease | undefined;

  constructor(
    private readonly device: Device,
    readonly shape: Shape,
    readonly dtype: Dtype,
    lifetime: Lifetime,
  ) {
    this.#lease = device.pool.lease(tensorBytes(dtype, shape), lifetime);
  }

  /** A tensor filled with `data`. @throws ShapeError when the data has another number of elements. */
  static from(device: Device, data: TensorData, shape: Shape, lifetime: Lifetime = "state"): Tensor {
    const dtype = data instanceof Float32Array ? "f32" : data instanceof Int32Array ? "i32" : "u32";
    checkSize(data, shape);
    const tensor = new Tensor(device, shape, dtype, lifetime);
    tensor.write(data);
    return tensor;
  }

  /** The buffer underneath. @throws DisposedError after `dispose`. */
  get lease(): Lease {
    if (this.#lease) return this.#lease;
    throw new DisposedError(
      `A tensor ${formatShape(this.shape)} is used after it was disposed of.`,
      "Read what you need before dispose(), or end the `using` block later.",
    );
  }

  get bytes(): number {
    return this.lease.bytes;
  }

  /** Replaces the contents. @throws ShapeError for another number of elements, DtypeError for a packed weight. */
  write(data: TensorData): void {
    checkSize(data, this.shape);
    if (!["f32", "i32", "u32"].includes(this.dtype)) {
      throw new DtypeError(`A weight stored as ${this.dtype} is not written to.`, "Load the model with f32 weights.");
    }
    this.device.check();
    this.device.writes++;
    this.device.handle.queue.writeBuffer(this.lease.buffer, 0, data as Float32Array<ArrayBuffer>);
  }

  /**
   * Writes whole rows, from `row` on, in the format that the tensor has; gives the bytes written. Values must be finite. In
   * 16 bits, rows of an odd length begin on a word only where `row` is even.
   * @throws ShapeError for rows that the tensor does not have.
   */
  fillRows(row: number, data: Float32Array): number {
    const width = columns(this.shape);
    const offset = row * rowBytes(this.dtype as WeightFormat, width);
    if (data.length % width !== 0 || row * width + data.length > elements(this.shape) || offset % 4 !== 0) {
      throw new ShapeError(
        `${data.length} values from row ${row} on are no rows of a tensor ${formatShape(this.shape)} in ${this.dtype}.`,
        `Give whole rows of ${width} values, from an even row on.`,
      );
    }
    this.device.check();
    const encoded = encodeWeight(data, width, this.dtype as WeightFormat);
    this.device.writes++;
    this.device.handle.queue.writeBuffer(this.lease.buffer, offset, encoded as Float32Array<ArrayBuffer>);
    return encoded.byteLength;
  }

  /** Copies the contents to the host; packed weights come as the f32 that they stand for. */
  async read(): Promise<TensorData> {
    const bytes = await this.device.wait(readBuffer(this.device, this.lease));
    const count = elements(this.shape);
    if (this.dtype === "i32") return new Int32Array(bytes, 0, count);
    if (this.dtype === "u32") return new Uint32Array(bytes, 0, count);
    return decodeWeight(new Uint32Array(bytes), columns(this.shape), this.dtype, count);
  }

  /** Copies some rows of a table [n, d] to the host: [rows, d]. */
  async readRows(rows: readonly number[]): Promise<Float32Array> {
    const width = this.shape[1] ?? 1;
    if (this.dtype !== "f32") {
      const all = (await this.read()) as Float32Array;
      return Float32Array.from(rows.flatMap((row) => [...all.subarray(row * width, (row + 1) * width)]));
    }
    const ranges = rows.map((row) => ({ offset: row * width * 4, bytes: width * 4 }));
    return new Float32Array(await this.device.wait(readBuffer(this.device, this.lease, ranges)));
  }

  /** Gives the memory back. Further calls do nothing. */
  dispose(): void {
    if (this.#lease) this.device.pool.return(this.#lease);
    this.#lease = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function checkSize(data: TensorData, shape: Shape): void {
  if (data.length === elements(shape)) return;
  throw new ShapeError(
    `${data.length} values do not fill a tensor ${formatShape(shape)}.`,
    `Give ${elements(shape)} values in row-major order.`,
  );
}
