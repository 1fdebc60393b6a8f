import { DisposedError, ShapeError } from "./base/errors";
import { bytesPerElement } from "./base/dtype";
import type { Dtype } from "./base/dtype";
import { elements, formatShape } from "./base/shape";
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
    this.#lease = device.pool.lease(elements(shape) * bytesPerElement(dtype), lifetime);
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

  /** Replaces the contents. @throws ShapeError when the data has another number of elements. */
  write(data: TensorData): void {
    checkSize(data, this.shape);
    this.device.check();
    this.device.handle.queue.writeBuffer(this.lease.buffer, 0, data as Float32Array<ArrayBuffer>);
  }

  /** Copies the contents to the host. */
  async read(): Promise<TensorData> {
    const bytes = await this.device.guard(readBuffer(this.device, this.lease));
    const count = elements(this.shape);
    if (this.dtype === "i32") return new Int32Array(bytes, 0, count);
    if (this.dtype === "u32") return new Uint32Array(bytes, 0, count);
    return new Float32Array(bytes, 0, count);
  }

  /** Copies some rows of an f32 table [n, d] to the host: [rows, d]. */
  async readRows(rows: readonly number[]): Promise<Float32Array> {
    const bytes = (this.shape[1] ?? 1) * bytesPerElement(this.dtype);
    const ranges = rows.map((row) => ({ offset: row * bytes, bytes }));
    return new Float32Array(await this.device.guard(readBuffer(this.device, this.lease, ranges)));
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
