import * as v from "valibot";
import { FileFormatError } from "../base/errors";
import type { Checkpoint } from "./checkpoint";
import { checkSchema, parseJson } from "./json";
import type { ElementRange } from "./safetensors";

/** A weight [rows, columns] as bitsandbytes stores it: codes, and what they stand for. */
export interface Codes {
  readonly dtype: "NF4" | "INT8";
  readonly rows: number;
  readonly columns: number;
  /** The file's tensors that belong to it. */
  readonly companions: readonly string[];
  /** Reads what a range of elements, row-major, needs; gives the value of each of them by its index. */
  open(range: ElementRange): Promise<(index: number) => number>;
}

const COUNT = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
const STATE = v.looseObject({
  quant_type: v.string(),
  blocksize: COUNT,
  shape: v.strictTuple([COUNT, COUNT]),
  nested_blocksize: v.optional(COUNT),
  nested_offset: v.optional(v.number()),
});

const SAVE_AGAIN = "the file is damaged, or of another version: save it again with save_pretrained";

/**
 * A weight in NF4: two codes a byte, the first in its upper half, counted over the whole weight, so that a block of codes
 * with one scale may begin in the middle of a row. With double quantisation scales are codes too.
 */
export async function openFourBits(checkpoint: Checkpoint, name: string, state: string, kind: string): Promise<Codes> {
  const where = checkpoint.directory.name;
  if (kind !== "nf4") {
    throw new FileFormatError(
      `${name} in ${where} is stored as bitsandbytes' ${kind}; of its formats of four bits, only nf4 is read`,
      `quantise the model again with bnb_4bit_quant_type="nf4"`,
    );
  }
  const told = checkSchema(STATE, parseJson(await checkpoint.bytes(state), `${state} in ${where}`), state);
  const [rows, columns] = told.shape;
  const count = rows * columns;
  const blocks = Math.ceil(count / told.blocksize);
  const [absmax, map] = [`${name}.absmax`, `${name}.quant_map`];
  checkCount(checkpoint, name, byteCount(checkpoint, name), Math.ceil(count / 2), `bytes for ${count} codes`);
  checkCount(checkpoint, absmax, sizeOf(checkpoint, absmax), blocks, `scales of blocks of ${told.blocksize}`);
  checkCount(checkpoint, map, sizeOf(checkpoint, map), 16, "values");
  const isNested = checkpoint.info(absmax).dtype === "U8";
  const scales = isNested ? openNested(checkpoint, absmax, blocks, told) : plainScales(checkpoint, absmax);
  const nested = isNested ? nestedNames(name) : [];
  return {
    dtype: "NF4",
    rows,
    columns,
    companions: [state, absmax, map, ...nested],
    async open({ first, end }) {
      const [start, firstBlock] = [Math.floor(first / 2), Math.floor(first / told.blocksize)];
      const codes = await checkpoint.bytes(name, { first: start, end: Math.ceil(end / 2) });
      const values = await checkpoint.read(map);
      const scale = await scales({ first: firstBlock, end: Math.ceil(end / told.blocksize) });
      return (index) => {
        const byte = codes[Math.floor(index / 2) - start]!;
        const code = index % 2 === 0 ? byte >> 4 : byte & 15;
        return values[code]! * scale[Math.floor(index / told.blocksize) - firstBlock]!;
      };
    },
  };
}

type Scales = (range: ElementRange) => Promise<Float32Array>;

const nestedNames = (name: string): [string, string] => [`${name}.nested_absmax`, `${name}.nested_quant_map`];

const plainScales =
  (checkpoint: Checkpoint, absmax: string): Scales =>
  (range) =>
    checkpoint.read(absmax, range);

/** Scales that are quantised themselves: map[code] times the scale of a block of scales, and their mean added. */
function openNested(
  checkpoint: Checkpoint,
  absmax: string,
  blocks: number,
  { nested_blocksize: size, nested_offset: offset }: v.InferOutput<typeof STATE>,
): Scales {
  if (size === undefined || offset === undefined) {
    const fact = `${absmax} holds codes, but the weight's quant_state has no nested_blocksize and nested_offset`;
    throw new FileFormatError(`${fact} in ${checkpoint.directory.name}`, SAVE_AGAIN);
  }
  const [outer, map] = nestedNames(absmax.replace(/\.absmax$/, ""));
  checkCount(checkpoint, outer, sizeOf(checkpoint, outer), Math.ceil(blocks / size), `scales of blocks of ${size}`);
  checkCount(checkpoint, map, sizeOf(checkpoint, map), 256, "values");
  const mean = Math.fround(offset);
  return async ({ first, end }) => {
    const codes = await checkpoint.bytes(absmax, { first, end });
    const values = await checkpoint.read(map);
    const start = Math.floor(first / size);
    const scales = await checkpoint.read(outer, { first: start, end: Math.ceil(end / size) });
    return Float32Array.from(codes, (code, i) => {
      return Math.fround(values[code]! * scales[Math.floor((first + i) / size) - start]!) + mean;
    });
  };
}

/** A weight in int8 [rows, columns]: each row with the magnitude that 127 stands for. */
export async function openEightBits(checkpoint: Checkpoint, name: string, scb: string): Promise<Codes> {
  const format = name.replace(/weight$/, "weight_format");
  const [rows = 0, columns = 0] = checkpoint.info(name).shape;
  checkCount(checkpoint, name, byteCount(checkpoint, name), rows * columns, "bytes of a matrix");
  checkCount(checkpoint, scb, sizeOf(checkpoint, scb), rows, "scales of rows");
  const hasFormat = checkpoint.has(format);
  if (hasFormat && (await checkpoint.bytes(format)).some((byte) => byte !== 0)) {
    throw new FileFormatError(
      `${name} in ${checkpoint.directory.name} is not stored row by row, but in tiles for a kind of GPU`,
      "save it again with a current bitsandbytes",
    );
  }
  return {
    dtype: "INT8",
    rows,
    columns,
    companions: hasFormat ? [scb, format] : [scb],
    async open({ first, end }) {
      const bytes = await checkpoint.bytes(name, { first, end });
      const codes = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length);
      const firstRow = Math.floor(first / columns);
      const scales = await checkpoint.read(scb, { first: firstRow, end: Math.ceil(end / columns) });
      return (index) =>
        Math.fround(codes[index - first]! * scales[Math.floor(index / columns) - firstRow]!) * Math.fround(1 / 127);
    },
  };
}

const sizeOf = (checkpoint: Checkpoint, name: string): number =>
  checkpoint.info(name).shape.reduce((product, size) => product * size, 1);

/** Bytes of a tensor: codes may be packed into wider elements (`bnb_4bit_quant_storage`). */
const byteCount = (checkpoint: Checkpoint, name: string): number => checkpoint.info(name).bytes;

function checkCount(checkpoint: Checkpoint, name: string, found: number, wanted: number, what: string): void {
  if (found === wanted) return;
  throw new FileFormatError(
    `${name} in ${checkpoint.directory.name} has ${found} ${what}, where the weight's shape asks for ${wanted}`,
    SAVE_AGAIN,
  );
}
