import type { Use } from "./entry";
import { heavyBlocks, hottest, streamingBlocks } from "./machine-code";
import type { Block, MachineCode } from "./machine-code";
import type { PeerWork } from "./quoted";

/** What an entry's machine code has to keep on RDNA2 and RDNA3. */
export interface Bound {
  readonly name: string;
  /** NaN where the code has nothing of the kind, and for a family without a disassembler. */
  readonly measure: (code: MachineCode, use: Use) => number;
  /** The least or the largest value for a use; undefined where the bound is not for it. */
  readonly least?: (use: Use) => number | undefined;
  readonly most?: (use: Use) => number | undefined;
}

const isReal = ({ origin }: Use): boolean => origin !== "case";
const formatOf = ({ traits }: Use): string => traits[0] ?? "f32";
const headOf = ({ traits }: Use): number => Number(/head (\d+)/.exec(traits.join())?.[1] ?? NaN);
const least = (values: readonly number[]): number => (values.length > 0 ? Math.min(...values) : NaN);
const most = (values: readonly number[]): number => (values.length > 0 ? Math.max(...values) : NaN);

/** The least share of multiply-adds among the vector instructions of some blocks. */
export const fmaShare = (blocks: readonly Block[]): number => least(blocks.map(({ fma, valu }) => fma / valu));

/** The most bytes of workgroup memory that any of the blocks reads for a multiply-add. */
export const ldsPerFma = (blocks: readonly Block[]): number => most(blocks.map(({ fma, ldsBytes }) => ldsBytes / fma));

/** The blocks whose shares count: of attention, the inner loops of all its products. */
export const hotBlocks = (code: MachineCode, { kind }: Pick<Use, "kind">): Block[] => {
  const hot = hottest(code);
  if (kind === "attention") return heavyBlocks(code);
  return hot ? [hot] : [];
};

/** What every kernel is held to on RDNA2 and RDNA3, by what it does. */
export const BOUNDS: readonly Bound[] = [
  { name: "spilled registers", measure: ({ spilled }) => spilled, most: () => 0 },
  { name: "scratch bytes", measure: ({ scratchBytes }) => scratchBytes, most: () => 0 },
  { name: "waves per SIMD", measure: ({ waves }) => waves, least: ({ kind }) => (kind.includes("product") ? 8 : 6) },
  {
    name: "registers",
    measure: ({ registers }) => registers,
    most: (use) => {
      if (use.kind !== "attention" || headOf(use) > 128) return undefined;
      return headOf(use) > 64 ? 192 : 128;
    },
  },
  {
    name: "multiply-adds per vector instruction",
    measure: (code, use) => fmaShare(hotBlocks(code, use)),
    least: (use) => {
      if (use.kind === "product") return formatOf(use) === "f32" ? 0.92 : 0.88;
      return { "narrow product": 0.7, attention: 0.8, memory: undefined, small: undefined }[use.kind];
    },
  },
  {
    name: "bytes of workgroup memory per multiply-add",
    measure: (code, use) => ldsPerFma(hotBlocks(code, use)),
    most: ({ kind }) =>
      ({ product: 1, attention: 2.25, "narrow product": undefined, memory: undefined, small: undefined })[kind],
  },
  {
    name: "narrowest global read in loops, bytes",
    measure: (code) => least(streamingBlocks(code).flatMap(({ reads }) => reads)),
    least: (use) => (use.kind === "narrow product" && isReal(use) ? 8 : undefined),
  },
  {
    name: "share of global bytes in accesses of 16",
    measure: (code) => wideShare(streamingBlocks(code)),
    least: (use) => (use.kind === "memory" && isReal(use) ? 0.8 : undefined),
  },
];

function wideShare(blocks: readonly Block[]): number {
  const bytes = blocks.flatMap(({ reads, writes }) => [...reads, ...writes]);
  const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
  return sum(bytes.filter((width) => width === 16)) / sum(bytes);
}

/** A bound that an entry does not keep. */
export interface Miss {
  readonly bound: string;
  readonly value: number;
  readonly limit: number;
}

/** The bounds that a use of an entry misses. Code without a block of the kind that a bound is about keeps that bound. */
export function misses(code: MachineCode, use: Use): Miss[] {
  return BOUNDS.flatMap(({ name, measure, least: atLeast, most: atMost }) => {
    const value = measure(code, use);
    const [low, high] = [atLeast?.(use), atMost?.(use)];
    const limit = low !== undefined && value < low ? low : high !== undefined && value > high ? high : undefined;
    return limit === undefined ? [] : [{ bound: name, value, limit }];
  });
}

/** Why an entry cannot meet a bound, as its machine code shows. */
export const REASONS: readonly { readonly entry: RegExp; readonly bound: string; readonly reason: string }[] = [
  {
    entry: /^attention_tiled\.grad_[qk], head 64$/,
    bound: "multiply-adds per vector instruction",
    reason:
      "with a key and a query for each difference (DeBERTa), the last product reads rows of the table from global memory, as workgroup memory has no room for 95 of them: an address and a clamp for each of seven reads, beside 64 multiply-adds",
  },
  {
    entry: /^attention_tiled\.grad_k(_v)?, head 256$/,
    bound: "multiply-adds per vector instruction",
    reason:
      "with heads of 256 an invocation sums one vector of the head at a time: 64 multiply-adds share 17 to 19 instructions that make addresses and clamp them",
  },
  {
    entry: /^attention\.grad_relative(_rows)?, head \d+$/,
    bound: "multiply-adds per vector instruction",
    reason:
      "an invocation makes the score of one pair with an entry of the table, whose rows it reads from global memory: each of four or six reads has an address and a clamp, beside two or six multiply-adds",
  },
  {
    entry: /^attention_tiled\.grad_\w+, head (32|64)$/,
    bound: "registers",
    reason: "RDNA3 hands out registers by twelves, and its ten waves a SIMD are more than the bound asks for",
  },
  {
    entry: /^product_tiled\.plain, narrow product, f32$/,
    bound: "narrowest global read in loops, bytes",
    reason: "a row of 50,257 logits does not begin at a multiple of 8 bytes, so a is read one by one",
  },
  {
    entry: /^inverse_norms\.forward$/,
    bound: "share of global bytes in accesses of 16",
    reason:
      "four codes of NF4 take half a word, and their scale four words, of which the cache has all but the first read",
  },
  {
    entry: /^block_product\.(plus|product)$/,
    bound: "share of global bytes in accesses of 16",
    reason:
      "places follow from strides of each operand, of which neighbours lie along rows, columns or steps, so that tiles are filled number by number; neighbouring lanes read neighbours",
  },
  {
    entry: /^skew\./,
    bound: "share of global bytes in accesses of 16",
    reason:
      "rows above a diagonal begin at no multiple of four numbers, and are read along columns for what lies below it",
  },
  {
    entry: /, single numbers$/,
    bound: "share of global bytes in accesses of 16",
    reason:
      "rows or tensors that are no multiple of four numbers, such as one loss or two classes, do not fill 16 bytes",
  },
  {
    entry: /^attention\.grad_k(_v)?, small, head 32$/,
    bound: "waves per SIMD",
    reason:
      "an invocation keeps its rows of k, v, dk and dv in registers; from 1e6 FLOPs on, attention_tiled runs instead",
  },
];

/** Why a peer's inner loop has a larger share of multiply-adds than ours, as the machine code shows. */
export const BEHIND: Readonly<Record<PeerWork | "narrow product", string>> = {
  product:
    "For four steps, 256 multiply-adds share 11 instructions that make addresses: four clamps (WGSL's bounds checks) and seven additions. A peer's loop over all steps of a tile is unrolled, so that addresses are constants, but reads twice the bytes from workgroup memory: an invocation has fewer sums for each vector that it reads.",
  "narrow product":
    "A c of few columns has few sums, so that slices share them: for every tile that is copied a slice adds four steps, 64 multiply-adds, and makes its addresses once: three clamps (WGSL's bounds checks), a product, and additions. A peer unrolls all steps of a tile in one invocation.",
  "attention forward":
    "The loops have an end that the compiler does not know, since unrolled ones would not fit the instruction cache; so every step's row is clamped (WGSL's bounds checks, by scalar instructions) and each of its 8 to 12 reads adds the row to a lane's offset: 13 to 16 instructions with 64 to 128 multiply-adds. torchlette, which spreads a row over four lanes and reads twice the bytes, has constant addresses.",
  "attention gradients": "As forward.",
};
