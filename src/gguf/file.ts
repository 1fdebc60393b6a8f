import { FileFormatError } from "../base/errors";
import { elements } from "../base/shape";
import type { Shape } from "../base/shape";
import { encodeTensor, storedSize, TENSOR_TYPES } from "./encodings";
import type { GgufFormat } from "./encodings";

/** A value of GGUF's metadata, with its type. */
export type GgufValue =
  | { readonly u32: number }
  | { readonly f32: number }
  | { readonly bool: boolean }
  | { readonly string: string }
  | { readonly strings: readonly string[] }
  | { readonly i32s: readonly number[] }
  | { readonly f32s: readonly number[] };

export type GgufMetadata = Readonly<Record<string, GgufValue>>;

/** A tensor to be written. */
export interface GgufTensor {
  readonly name: string;
  /** As PyTorch has it, rows first. */
  readonly shape: Shape;
  readonly format: GgufFormat;
  /** Its elements, row by row; called when they are written. */
  readonly read: () => Promise<Float32Array>;
}

/** Bytes to whose multiples data is padded, GGUF's default. */
const ALIGNMENT = 32;
const VERSION = 3;
/** Most bytes of a tensor's name that llama.cpp reads. */
const LONGEST_NAME = 63;
/** Numbers of the types of values. */
const TYPES = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 } as const;

const padded = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

/** Bytes in little-endian order, as they are appended: in one piece, since a tokenizer has a million small values. */
class ByteWriter {
  readonly #text = new TextEncoder();
  #bytes = new Uint8Array(1 << 16);
  #length = 0;

  /** What was appended. */
  get content(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  bytes(piece: Uint8Array): void {
    const start = this.#append(piece.length);
    this.#bytes.set(piece, start);
  }

  u32(value: number): void {
    this.#view(4).setUint32(0, value, true);
  }

  i32(value: number): void {
    this.#view(4).setInt32(0, value, true);
  }

  f32(value: number): void {
    this.#view(4).setFloat32(0, value, true);
  }

  u64(value: number): void {
    this.#view(8).setBigUint64(0, BigInt(value), true);
  }

  bool(value: boolean): void {
    this.#view(1).setUint8(0, value ? 1 : 0);
  }

  string(value: string): void {
    const encoded = this.#text.encode(value);
    this.u64(encoded.length);
    this.bytes(encoded);
  }

  /** Zeros up to a multiple of the alignment. */
  pad(): void {
    this.#append(padded(this.#length) - this.#length);
  }

  #view(size: number): DataView {
    const start = this.#append(size);
    return new DataView(this.#bytes.buffer, start, size);
  }

  /** Appends zeros. @returns where they start. */
  #append(size: number): number {
    const start = this.#length;
    this.#length += size;
    if (this.#length > this.#bytes.length) {
      const longer = new Uint8Array(Math.max(this.#length, 2 * this.#bytes.length));
      longer.set(this.#bytes);
      this.#bytes = longer;
    }
    return start;
  }
}

/**
 * The content of a GGUF file, version 3 (ggml's docs/gguf.md): metadata, descriptions of tensors, then their data, each padded to 32
 * bytes. One tensor at a time is in memory.
 * @throws FileFormatError for a tensor whose name is too long, or whose elements do not fit its format.
 */
export async function* ggufContent(
  metadata: GgufMetadata,
  tensors: readonly GgufTensor[],
): AsyncGenerator<Uint8Array, void> {
  yield header(metadata, tensors).content;
  for (const tensor of tensors) {
    const values = await tensor.read();
    if (values.length !== elements(tensor.shape)) {
      throw new FileFormatError(
        `${tensor.name} has ${values.length} elements for the shape [${tensor.shape.join(", ")}].`,
        "The file changed while it was read: export it again.",
      );
    }
    const bytes = encodeTensor(tensor.name, values, tensor.format);
    yield bytes;
    yield new Uint8Array(padded(bytes.length) - bytes.length);
  }
}

function header(metadata: GgufMetadata, tensors: readonly GgufTensor[]): ByteWriter {
  const writer = new ByteWriter();
  writer.bytes(new TextEncoder().encode("GGUF"));
  writer.u32(VERSION);
  writer.u64(tensors.length);
  const entries = Object.entries(metadata);
  writer.u64(entries.length);
  for (const [key, value] of entries) {
    writer.string(key);
    writeValue(writer, value);
  }
  let offset = 0;
  for (const { name, shape, format } of tensors) {
    if (new TextEncoder().encode(name).length > LONGEST_NAME) {
      throw new FileFormatError(
        `The tensor's name ${name} has more than ${LONGEST_NAME} bytes.`,
        "llama.cpp reads no longer names.",
      );
    }
    writer.string(name);
    writer.u32(shape.length);
    // The innermost dimension comes first; bytes are the same.
    for (const size of [...shape].reverse()) writer.u64(size);
    writer.u32(TENSOR_TYPES[format]);
    writer.u64(offset);
    offset += padded(storedSize(elements(shape), format));
  }
  writer.pad();
  return writer;
}

function writeValue(writer: ByteWriter, value: GgufValue): void {
  const array = <T>(type: number, items: readonly T[], write: (item: T) => void): void => {
    writer.u32(TYPES.array);
    writer.u32(type);
    writer.u64(items.length);
    items.forEach(write);
  };
  if ("strings" in value) array(TYPES.string, value.strings, (item) => writer.string(item));
  else if ("i32s" in value) array(TYPES.i32, value.i32s, (item) => writer.i32(item));
  else if ("f32s" in value) array(TYPES.f32, value.f32s, (item) => writer.f32(item));
  else if ("u32" in value) {
    writer.u32(TYPES.u32);
    writer.u32(value.u32);
  } else if ("f32" in value) {
    writer.u32(TYPES.f32);
    writer.f32(value.f32);
  } else if ("bool" in value) {
    writer.u32(TYPES.bool);
    writer.bool(value.bool);
  } else {
    writer.u32(TYPES.string);
    writer.string(value.string);
  }
}
