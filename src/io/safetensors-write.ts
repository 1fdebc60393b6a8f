import { FileFormatError, ShapeError } from "../base/errors";
import type { Directory, FileContent } from "./directory";

type Values = Float32Array | Int32Array;

/** A tensor to be saved. Data given as a function is asked for when its turn comes, and dropped after. */
export interface TensorToWrite {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Values | (() => Values | Promise<Values>);
  /** What `data` gives where it is a function; "f32" by default. */
  readonly dtype?: "f32" | "i32";
}

export interface SafetensorsOptions {
  /** Text kept in the header. {"format": "pt"} by default, which transformers insists on. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Order of the tensors in the file: by name (default), or as given. */
  readonly order?: "name" | "given";
}

/**
 * A safetensors file's bytes in pieces: the header (padded with spaces to 8 bytes), then one tensor at a time. Throws
 * FileFormatError for a repeated or reserved name, ShapeError where data does not have its shape's size.
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

/** Writes a safetensors file, whole or not at all. Throws as safetensorsContent and Directory.write. */
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

/** Written by hand, since a name such as "__proto__" is no key of a JavaScript object. */
function headerBytes(tensors: readonly TensorToWrite[], metadata: Readonly<Record<string, string>>): Uint8Array {
  const parts = Object.keys(metadata).length > 0 ? [`"__metadata__":${JSON.stringify(metadata)}`] : [];
  let at = 0;
  for (const tensor of tensors) {
    const end = at + 4 * elements(tensor.shape);
    const entry = { dtype: dtypeOf(tensor), shape: tensor.shape, data_offsets: [at, end] };
    parts.push(`${JSON.stringify(tensor.name)}:${JSON.stringify(entry)}`);
    at = end;
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
        `the name ${JSON.stringify(tensor.name)} is given twice or reserved`,
        "give each tensor in a file a name of its own",
      );
    }
    names.add(tensor.name);
    if (!tensor.shape.every((size) => Number.isSafeInteger(size) && size >= 0)) {
      throw new ShapeError(`${tensor.name} has the shape [${tensor.shape.join(", ")}]`, "sizes are integers from 0 on");
    }
    if (typeof tensor.data !== "function") checkData(tensor, tensor.data);
  }
}

function checkData(tensor: TensorToWrite, data: Values): void {
  const expected = elements(tensor.shape);
  if (data.length !== expected || dtypeOf(tensor) !== (data instanceof Float32Array ? "F32" : "I32")) {
    throw new ShapeError(
      `${tensor.name} is ${dtypeOf(tensor)} [${tensor.shape.join(", ")}], ${expected} elements, but its data is a ` +
        `${data.constructor.name} of ${data.length}`,
      "give data of the tensor's type with one element for each place in its shape",
    );
  }
}

function dtypeOf({ data, dtype }: TensorToWrite): "F32" | "I32" {
  if (typeof data !== "function") return data instanceof Float32Array ? "F32" : "I32";
  return dtype === "i32" ? "I32" : "F32";
}

function elements(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}
