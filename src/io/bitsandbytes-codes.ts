import * as v from "valibot";
import { FileFormatError } from "../base/errors";
import type { Checkpoint } from "./checkpoint";
import { checkSchema, parseJson } from "./json";
import type { ElementRange } from "./safetensors";

/** A weight [rows, columns] that bitsandbytes has quantised, and how to read its values. */
export interface Codes {
  readonly dtype: "NF4" | "INT8";
  readonly rows: number;
  readonly columns: number;
  /** Names of the other tensors in the file that belong to the weight. */
  readonly companions: readonly string[];
  /** Reads the codes and scales of a range of elements, row-major. The result gives the value of an element by its index. */
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

const SAVE_AGAIN = "The file is damaged, or of another version: save it again with save_pretrained.";

/**
 * Opens a weight in NF4. Each byte holds two codes, the first in its upper half. Consecutive codes of the weight, taken
 * row-major, form blocks with one scale each, so a block may begin in the middle of a row. With double quantisation the
 * scales are stored as codes too.
 * @throws FileFormatError for FP4, and for codes, scales or code maps that are missing or do not fit the weight.
 */
export async function openFourBits(checkpoint: Checkpoint, name: string, state: string, kind: string): Promise<Codes> {
  const where = checkpoint.directory.name;
  if (kind !== "nf4") {
    throw new FileFormatError(
      `${name} in ${where} is stored in bitsandbytes' 4-bit format ${kind}; only nf4 is supported.`,
      `Quantise the model again with bnb_4bit_quant_type="nf4".`,
    );
  }
  const quantState = checkSchema(STATE, parseJson(await checkpoint.bytes(state), `${state} in ${where}`), state);
  const { blocksize } = quantState;
  const [rows, columns] = quantState.shape;
  const count = rows * columns;
  const blocks = Math.ceil(count / blocksize);
  const [absmax, map] = [`${name}.absmax`, `${name}.quant_map`];
  checkCount(checkpoint, name, byteCount(checkpoint, name), Math.ceil(count / 2), `bytes for ${count} codes`);
  checkCount(checkpoint, absmax, sizeOf(checkpoint, absmax), blocks, `scales of blocks of ${blocksize}`);
  checkCount(checkpoint, map, sizeOf(checkpoint, map), 16, "values");
  const isNested = checkpoint.info(absmax).dtype === "U8";
  const scales = isNested ? openNested(checkpoint, absmax, blocks, quantState) : plainScales(checkpoint, absmax);
  const nested = isNested ? nestedNames(name) : [];
  return {
    dtype: "NF4",
    rows,
    columns,
    companions: [state, absmax, map, ...nested],
    async open({ first, end }) {
      const [start, firstBlock] = [Math.floor(first / 2), Math.floor(first / blocksize)];
      const codes = await checkpoint.bytes(name, { first: start, end: Math.ceil(end / 2) });
      const values = await checkpoint.read(map);
      const scale = await scales({ first: firstBlock, end: Math.ceil(end / blocksize) });
      return (index) => {
        const byte = codes[Math.floor(index / 2) - start]!;
        const code = index % 2 === 0 ? byte >> 4 : byte & 15;
        return values[code]! * scale[Math.floor(index / blocksize) - firstBlock]!;
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

/** Opens quantised scales: each is map[code] times the scale of its block of scales, plus their mean. */
function openNested(
  checkpoint: Checkpoint,
  absmax: string,
  blocks: number,
  { nested_blocksize: size, nested_offset: offset }: v.InferOutput<typeof STATE>,
): Scales {
  if (size === undefined || offset === undefined) {
    throw new FileFormatError(
      `${absmax} in ${checkpoint.directory.name} is quantised, but the weight's quant_state lacks nested_blocksize or nested_offset.`,
      SAVE_AGAIN,
    );
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

/**
 * Opens a weight in int8 [rows, columns]. Each row has a scale: the magnitude that the code 127 stands for.
 * @throws FileFormatError for codes or scales that do not fit the weight, and for a layout that is not row by row.
 */
export async function openEightBits(checkpoint: Checkpoint, name: string, scb: string): Promise<Codes> {
  const format = name.replace(/weight$/, "weight_format");
  const [rows = 0, columns = 0] = checkpoint.info(name).shape;
  checkCount(checkpoint, name, byteCount(checkpoint, name), rows * columns, "bytes of a matrix");
  checkCount(checkpoint, scb, sizeOf(checkpoint, scb), rows, "scales of rows");
  const hasFormat = checkpoint.has(format);
  if (hasFormat && (await checkpoint.bytes(format)).some((byte) => byte !== 0)) {
    throw new FileFormatError(
      `${name} in ${checkpoint.directory.name} is stored in tiles for one kind of GPU, not row by row.`,
      "Save it again with a current version of bitsandbytes.",
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

/** Size of a tensor in bytes. Codes may be packed into wider elements (`bnb_4bit_quant_storage`). */
const byteCount = (checkpoint: Checkpoint, name: string): number => checkpoint.info(name).bytes;

function checkCount(checkpoint: Checkpoint, name: string, actual: number, expected: number, what: string): void {
  if (actual === expected) return;
  throw new FileFormatError(
    `${name} in ${checkpoint.directory.name} has ${actual} ${what}; the weight's shape requires ${expected}.`,
    SAVE_AGAIN,
  );
}
