import { FileFormatError, ShapeError } from "../base/errors";
import { elements } from "../base/shape";
import type { Directory, FileContent } from "./directory";

/** Elements; those of 16 bits are codes. */
type Values = Float32Array | Int32Array | Uint16Array;

/** A tensor to be saved. */
export interface TensorToWrite {
  readonly name: string;
  readonly shape: readonly number[];
  /** Elements, row-major. A function is called when the tensor is written, and its result is not kept. */
  readonly data: Values | (() => Values | Promise<Values>);
  /** Element type of `data`. Default i32 for an Int32Array, else f32. */
  readonly dtype?: "f32" | "i32" | "f16" | "bf16";
}

/** Options for writing a safetensors file. */
export interface SafetensorsOptions {
  /** Texts for the header. Default {"format": "pt"}, which transformers requires. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Order of the tensors in the file: by name, or as they are passed. Default "name". */
  readonly order?: "name" | "given";
}

/**
 * The bytes of a safetensors file in pieces: the header, padded with spaces to a multiple of 8 bytes, then the tensors.
 * @throws FileFormatError for a repeated or reserved name, ShapeError if data does not fit its shape.
 */
export function safetensorsContent(
  tensors: Iterable<TensorToWrite>,
  { metadata = { format: "pt" }, order = "name" }: SafetensorsOptions = {},
): FileContent {
  const list = [...tensors];
  if (order === "name") list.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  checkTensors(list);
  return pieces(headerBytes(list, metadata), list);
}

/** Writes a safetensors file. @throws as `safetensorsContent` and `Directory.write`; the directory is then as it was. */
export async function writeSafetensors(
  directory: Directory,
  file: string,
  tensors: Iterable<TensorToWrite>,
  options?: SafetensorsOptions,
): Promise<void> {
  await directory.write(file, safetensorsContent(tensors, options));
}

async function* pieces(header: Uint8Array, tensors: readonly TensorToWrite[]): AsyncGenerator<Uint8Array> {
  yield header;
  for (const tensor of tensors) {
    const data = typeof tensor.data === "function" ? await tensor.data() : tensor.data;
    checkData(tensor, data);
    yield new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  }
}

/** The length and the JSON of the header. The JSON is assembled as text, because no object can have the key "__proto__". */
function headerBytes(tensors: readonly TensorToWrite[], metadata: Readonly<Record<string, string>>): Uint8Array {
  const parts = Object.keys(metadata).length > 0 ? [`"__metadata__":${JSON.stringify(metadata)}`] : [];
  let start = 0;
  for (const tensor of tensors) {
    const dtype = dtypeOf(tensor);
    const end = start + (dtype.endsWith("16") ? 2 : 4) * elements(tensor.shape);
    const entry = { dtype, shape: tensor.shape, data_offsets: [start, end] };
    parts.push(`${JSON.stringify(tensor.name)}:${JSON.stringify(entry)}`);
    start = end;
  }
  const json = new TextEncoder().encode(`{${parts.join(",")}}`);
  const length = Math.ceil(json.length / 8) * 8;
  const bytes = new Uint8Array(8 + length).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(json, 8);
  return bytes;
}

function checkTensors(tensors: readonly TensorToWrite[]): void {
  const names = new Set<string>(["__metadata__"]);
  for (const tensor of tensors) {
    if (names.has(tensor.name)) {
      throw new FileFormatError(
        `The name ${JSON.stringify(tensor.name)} is reserved, or the name of two tensors.`,
        "Give every tensor of a file a different name.",
      );
    }
    names.add(tensor.name);
    if (!tensor.shape.every((size) => Number.isSafeInteger(size) && size >= 0)) {
      throw new ShapeError(
        `${tensor.name} has the shape [${tensor.shape.join(", ")}].`,
        "Sizes must be non-negative integers.",
      );
    }
    if (typeof tensor.data !== "function") checkData(tensor, tensor.data);
  }
}

function checkData(tensor: TensorToWrite, data: Values): void {
  const expected = elements(tensor.shape);
  const dtype = dtypeOf(tensor);
  const type = dtype === "F32" ? Float32Array : dtype === "I32" ? Int32Array : Uint16Array;
  if (data.length !== expected || !(data instanceof type)) {
    throw new ShapeError(
      `${tensor.name} is ${dtype} [${tensor.shape.join(", ")}], ${expected} elements, but its data is a ` +
        `${data.constructor.name} of ${data.length}.`,
      "Pass data of the tensor's type with as many elements as its shape has.",
    );
  }
}

const dtypeOf = ({ data, dtype = data instanceof Int32Array ? "i32" : "f32" }: TensorToWrite): string =>
  dtype.toUpperCase();
