import { DisposedError, DtypeError, ShapeError } from "./base/errors";
import { tensorBytes } from "./base/dtype";
import type { Dtype, TensorData } from "./base/dtype";
import { decodeWeight, encodeWeight, rowBytes } from "./base/packed";
import type { WeightFormat } from "./base/packed";
import { columns, elements, formatShape } from "./base/shape";
import type { Shape } from "./base/shape";
import type { Device } from "./gpu/device";
import type { Lifetime } from "./gpu/ledger";
import { readBuffer } from "./gpu/readback";
import type { Lease, Memory } from "./gpu/pool";

export type { TensorData } from "./base/dtype";

/** A tensor in GPU memory. Whoever creates one disposes of it (`using` does); any use after that throws. */
export class Tensor {
  readonly #lease: Lease | undefined;
  #memory: Memory | undefined;

  /**
   * Allocates memory; its contents are zero.
   * @param place the lifetime of that memory, or other memory for the tensor to lie in, which it does not return.
   * @internal
   */
  constructor(
    private readonly device: Device,
    readonly shape: Shape,
    readonly dtype: Dtype,
    place: Lifetime | Memory,
  ) {
    const isMemory = typeof place === "object";
    this.#lease = isMemory ? undefined : device.pool.lease(tensorBytes(dtype, shape), place);
    this.#memory = isMemory ? place : this.#lease;
  }

  /**
   * Creates a tensor filled with `data`, in row-major order.
   * @throws ShapeError when `data` has another number of elements than `shape`.
   * @internal
   */
  static from(device: Device, data: TensorData, shape: Shape, lifetime: Lifetime = "state"): Tensor {
    const dtype = data instanceof Float32Array ? "f32" : data instanceof Int32Array ? "i32" : "u32";
    checkSize(data, shape);
    const tensor = new Tensor(device, shape, dtype, lifetime);
    tensor.write(data);
    return tensor;
  }

  /**
   * The tensor's memory. @throws DisposedError after `dispose`.
   * @internal
   */
  get lease(): Memory {
    if (this.#memory) return this.#memory;
    throw new DisposedError(
      `A tensor ${formatShape(this.shape)} is used after it was disposed of.`,
      "Read its values before dispose(), or end the `using` block later.",
    );
  }

  get bytes(): number {
    return this.lease.bytes;
  }

  /**
   * Replaces the contents.
   * @throws ShapeError when `data` has another number of elements, DtypeError for a weight in a packed format.
   */
  write(data: TensorData): void {
    checkSize(data, this.shape);
    if (!["f32", "i32", "u32"].includes(this.dtype)) {
      throw new DtypeError(
        `A weight stored as ${this.dtype} cannot be overwritten.`,
        "Load the model with f32 weights.",
      );
    }
    this.#upload(0, data);
  }

  /**
   * Replaces complete rows, from `row` on, encoding them in the tensor's format. Values must be finite. In 16-bit formats,
   * rows of odd length can only start at an even `row`.
   * @returns the number of bytes written.
   * @throws ShapeError for rows that the tensor does not have, DtypeError for a tensor of integers.
   */
  fillRows(row: number, data: Float32Array): number {
    const format = this.#weightFormat("filled with rows of numbers");
    const width = columns(this.shape);
    const offset = row * rowBytes(format, width);
    if (data.length % width !== 0 || row * width + data.length > elements(this.shape) || offset % 4 !== 0) {
      throw new ShapeError(
        `${data.length} values from row ${row} on do not fit a tensor ${formatShape(this.shape)} in ${this.dtype}.`,
        `Give complete rows of ${width} values, starting at an even row.`,
      );
    }
    const encoded = encodeWeight(data, width, format);
    this.#upload(offset, encoded);
    return encoded.byteLength;
  }

  #upload(offset: number, data: TensorData): void {
    this.device.check();
    this.device.writes++;
    const memory = this.lease;
    this.device.upload(memory.buffer, memory.offset + offset, data);
  }

  #weightFormat(use: string): WeightFormat {
    const { dtype } = this;
    if (dtype !== "i32" && dtype !== "u32") return dtype;
    throw new DtypeError(`A tensor of ${dtype} cannot be ${use}.`, "Use write() and readIntegers() for integers.");
  }

  /** Copies the contents to the host. Packed weights are decoded to f32. @throws DtypeError for a tensor of integers. */
  async read(): Promise<Float32Array> {
    const format = this.#weightFormat("read as floats");
    const words = new Uint32Array(await this.device.wait(readBuffer(this.device, this.lease)));
    return decodeWeight(words, columns(this.shape), format, elements(this.shape));
  }

  /** Copies the contents of an i32 or u32 tensor to the host. @throws DtypeError for other tensors. */
  async readIntegers(): Promise<Int32Array | Uint32Array> {
    const { dtype } = this;
    if (dtype !== "i32" && dtype !== "u32") {
      throw new DtypeError(`A tensor of ${dtype} cannot be read as integers.`, "Use read().");
    }
    const bytes = await this.device.wait(readBuffer(this.device, this.lease));
    const count = elements(this.shape);
    return dtype === "i32" ? new Int32Array(bytes, 0, count) : new Uint32Array(bytes, 0, count);
  }

  /** Copies some rows of a table [n, d] to the host: [rows, d]. @throws DtypeError for a table of integers. */
  async readRows(rows: readonly number[]): Promise<Float32Array> {
    const width = this.shape[1] ?? 1;
    if (this.dtype !== "f32") {
      const table = await this.read();
      return Float32Array.from(rows.flatMap((row) => [...table.subarray(row * width, (row + 1) * width)]));
    }
    const ranges = rows.map((row) => ({ offset: row * width * 4, bytes: width * 4 }));
    return new Float32Array(await this.device.wait(readBuffer(this.device, this.lease, ranges)));
  }

  /** Returns the memory. Further calls do nothing. */
  dispose(): void {
    if (this.#lease) this.device.pool.return(this.#lease);
    this.#memory = undefined;
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
