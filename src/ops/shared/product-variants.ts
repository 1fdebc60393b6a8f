import narrowKernel from "../../../kernels/product_narrow_subgroup.wgsl";
import subgroupKernel from "../../../kernels/product_subgroup.wgsl";
import tiledKernel from "../../../kernels/product_tiled.wgsl";
import tiledHalfKernel from "../../../kernels/product_tiled_half.wgsl";
import tiledOddKernel from "../../../kernels/product_tiled_odd.wgsl";
import { WEIGHT_FORMATS } from "../../base/packed";
import type { WeightFormat } from "../../base/packed";
import type { Kernel } from "../../op/kernel";
import type { Variant } from "../../op/launch";

/** Sizes of a product c [m, n] = a [m, k] b [k, n]. */
export type ProductSize = Readonly<Record<"m" | "n" | "k", number>>;

/** Memory layout of an operand. */
export interface OperandLayout {
  /** First element. */
  readonly start: number;
  /** Distance in elements between neighbours along k. */
  readonly alongK: number;
  /** Distance in elements between neighbours along the other axis. */
  readonly acrossK: number;
  /** Bytes of the binding. */
  readonly bytes: number;
}

/** The matrices of a low-rank term, z [m, rank], in rows of `rank` elements, and l [rank, n]. */
export interface LowRankLayout {
  readonly rank: number;
  readonly zBytes: number;
  /** Whether the transpose of l is stored. */
  readonly isTransposed: boolean;
  readonly lBytes: number;
}

/** One launch of a product. */
export interface ProductLaunch {
  readonly size: ProductSize;
  readonly entry: ProductEntry;
  readonly a: OperandLayout;
  readonly b: OperandLayout;
  /** First column of c that the launch writes, and the elements of a row of c. */
  readonly c: { readonly start: number; readonly row: number };
  readonly lowRank?: LowRankLayout | undefined;
  /** Storage format of b. */
  readonly format: WeightFormat;
}

/** Entries of product.wgsl. */
export type ProductEntry =
  "plain" | "with_bias" | "low_rank" | "low_rank_with_bias" | "low_rank_dropped" | "dropped_a" | "dropped_b";

/** Elements of c that an invocation computes (m x n), and invocations of a workgroup (groupY rows of groupX). */
interface Tile {
  readonly m: number;
  readonly n: number;
  readonly groupX: number;
  readonly groupY: number;
}

/**
 * Tiles of product.wgsl, by the form of c; the first is the default. In a matrix as narrow or short as a LoRA rank,
 * most of a square tile would idle.
 */
const PORTABLE_TILES: Readonly<Record<Form, readonly [Tile, ...Tile[]]>> = {
  narrow: [
    { m: 8, n: 4, groupX: 1, groupY: 32 },
    { m: 2, n: 8, groupX: 1, groupY: 64 },
    { m: 1, n: 4, groupX: 2, groupY: 64 },
  ],
  short: [
    { m: 4, n: 8, groupX: 32, groupY: 1 },
    { m: 4, n: 4, groupX: 16, groupY: 2 },
    { m: 8, n: 1, groupX: 64, groupY: 1 },
  ],
  wide: [
    { m: 8, n: 8, groupX: 8, groupY: 4 },
    { m: 4, n: 8, groupX: 8, groupY: 8 },
    { m: 4, n: 4, groupX: 16, groupY: 16 },
  ],
};

/**
 * How a workgroup of product_tiled.wgsl is laid out: the squares of 4 x 4 elements of c that an invocation computes, the
 * invocations (`slices` of groupY rows of groupX), and the steps of k that are copied at a time.
 */
interface SquareTile {
  /** Squares along each axis; default 1. */
  readonly squares?: number;
  readonly groupY: number;
  readonly groupX: number;
  readonly slices: number;
  readonly depth: number;
}

/** Tiles of product_tiled.wgsl for a c whose sides are both above 64. */
const LARGE_SIDE = 128;
const LARGE_TILE: SquareTile = { squares: 2, groupY: 16, groupX: 16, slices: 1, depth: 16 };
const MEDIUM_TILE: SquareTile = { squares: 2, groupY: 8, groupX: 8, slices: 1, depth: 8 };

/** The smaller side of c from which it fills tiles of product_tiled_half.wgsl, which has no slices. */
const HALF_SIDE = 64;

/** Workgroups with `LARGE_TILE` from which they fill a GPU: the largest have some 140 compute units. */
const ENOUGH_WORKGROUPS = 128;

/**
 * Tiles of product_tiled.wgsl for a c that is as narrow as a LoRA rank, by the largest number of columns. Invocations share
 * sums, since there are few elements of c and many steps. For a short c, rows and columns change places.
 */
const NARROW_TILES: readonly (SquareTile & { readonly columns: number })[] = [
  { columns: 8, groupY: 4, groupX: 2, slices: 32, depth: 128 },
  { columns: 16, groupY: 4, groupX: 4, slices: 16, depth: 64 },
  { columns: 32, groupY: 4, groupX: 8, slices: 8, depth: 64 },
  { columns: 64, groupY: 4, groupX: 16, slices: 4, depth: 32 },
];

/** Tiles of product_subgroup.wgsl, for each subgroup size. */
const SUBGROUP_TILES: readonly { readonly subgroup: number; readonly m: number; readonly n: number }[] = [
  { subgroup: 4, m: 16, n: 8 },
  { subgroup: 8, m: 16, n: 8 },
  { subgroup: 16, m: 16, n: 4 },
  { subgroup: 32, m: 32, n: 4 },
  { subgroup: 64, m: 64, n: 2 },
];

/** Rows of c that an invocation of product_narrow_subgroup.wgsl computes. */
const NARROW_ROWS = 4;

/** Entries of product_subgroup.wgsl and of product_narrow_subgroup.wgsl. */
const SUBGROUP_ENTRIES: ReadonlySet<ProductEntry> = new Set([
  "plain",
  "with_bias",
  "low_rank",
  "low_rank_with_bias",
  "low_rank_dropped",
]);
const NARROW_ENTRIES: ReadonlySet<ProductEntry> = new Set(["plain", "dropped_a"]);

type Form = "narrow" | "short" | "wide";

function formOf({ m, n }: ProductSize): Form {
  if (n <= 8) return "narrow";
  return m <= 8 ? "short" : "wide";
}

/** Constants and workgroups of product.wgsl with its default tile. */
export function portableTile(size: ProductSize): Pick<Variant, "constants" | "workgroups"> {
  return tiled(size, PORTABLE_TILES[formOf(size)][0]);
}

function tiled({ m, n }: ProductSize, tile: Tile): Pick<Variant, "constants" | "workgroups"> {
  return {
    constants: { TILE_M: tile.m, TILE_N: tile.n, GROUP_X: tile.groupX, GROUP_Y: tile.groupY },
    workgroups: Math.ceil(m / (tile.m * tile.groupY)) * Math.ceil(n / (tile.n * tile.groupX)),
  };
}

/** The variants of a product. All give the same bits, except those with slices. `portable` is product.wgsl. */
export function productVariants(launch: ProductLaunch, portable: Kernel): Variant[] {
  return [...subgroupVariants(launch), ...tiledVariants(launch), ...tileVariants(launch, portable)];
}

const formatCode = ({ format }: ProductLaunch): number => WEIGHT_FORMATS.indexOf(format);

/** Elements that kernels read at a time, as a vec4. */
const VECTOR = 4;
const VECTOR_BYTES = 16;

/** Whether an operand can be read as aligned vectors along k. */
const isVectorAlongK = ({ size }: ProductLaunch, { start, alongK, acrossK }: OperandLayout): boolean =>
  alongK === 1 && [size.k, start, acrossK].every((count) => count % VECTOR === 0);

/** Whether an operand can be read as aligned vectors along its other axis, which has `length` elements. */
const isVectorAcrossK = ({ start, alongK, acrossK }: OperandLayout, length: number): boolean =>
  acrossK === 1 && [length, start, alongK].every((count) => count % VECTOR === 0);

/** Whether the bindings of a and b are whole vectors. */
const canBindVectors = ({ a, b }: ProductLaunch): boolean => [a, b].every(({ bytes }) => bytes % VECTOR_BYTES === 0);

/** Other register tiles of product.wgsl. */
function tileVariants(launch: ProductLaunch, kernel: Kernel): Variant[] {
  const [{ size }, FORMAT] = [launch, formatCode(launch)];
  const [, ...others] = PORTABLE_TILES[formOf(size)];
  return others.map((tile) => {
    const { constants, workgroups } = tiled(size, tile);
    const name = `tiles of ${tile.m} x ${tile.n}`;
    return { name, kernel, constants: { FORMAT, ...constants }, workgroups, flops: flopsOf(size) };
  });
}

/** How product_tiled.wgsl reads an operand: in vectors along k, in vectors along its other axis, or one by one. */
function readOf(launch: ProductLaunch, operand: OperandLayout, length: number): number {
  if (isVectorAlongK(launch, operand)) return 0;
  return isVectorAcrossK(operand, length) ? 1 : 2;
}

/** How product_tiled.wgsl reads z and l, in the same way. l is as wide as c. */
function lowRankReads({ size, c, lowRank }: ProductLaunch): Record<string, number> {
  if (!lowRank) return {};
  const isAlong = lowRank.rank % VECTOR === 0;
  const isAcross = [size.n, c.start, c.row].every((count) => count % VECTOR === 0);
  return { Z_READ: isAlong ? 0 : 2, L_READ: lowRank.isTransposed ? (isAlong ? 0 : 2) : isAcross ? 1 : 2 };
}

/** Variants that copy tiles to workgroup memory. The first is what GPUs run, the last may be one in 16 bits. */
function tiledVariants(launch: ProductLaunch): Variant[] {
  const { size, a, b, c, lowRank } = launch;
  const isBindable = [lowRank?.zBytes ?? 0, lowRank?.lBytes ?? 0].every((bytes) => bytes % VECTOR_BYTES === 0);
  if (!canBindVectors(launch) || !isBindable) return [];
  const isWholeVectors = [size.n, c.start, c.row].every((count) => count % VECTOR === 0);
  const variant = (kernel: Kernel, tile: SquareTile): Variant => {
    const { squares = 1, groupY, groupX, slices, depth } = tile;
    const [rows, columns] = [VECTOR * squares * groupY, VECTOR * squares * groupX];
    return {
      name: `workgroup memory, ${rows} x ${columns}`,
      kernel,
      constants: {
        FORMAT: formatCode(launch),
        A_READ: readOf(launch, a, size.m),
        B_READ: readOf(launch, b, size.n),
        ...lowRankReads(launch),
        GROUP_X: groupX,
        GROUP_Y: groupY,
        SQUARES: squares,
        DEPTH: depth,
        SLICES: slices,
      },
      workgroups: Math.ceil(size.m / rows) * Math.ceil(size.n / columns),
      flops: flopsOf(size),
      rounds: slices > 1,
    };
  };
  const kernel = isWholeVectors ? tiledKernel : tiledOddKernel;
  const [first, ...others] = squareTiles(size);
  return [
    { ...variant(kernel, first), gpu: true },
    ...others.map((tile) => variant(kernel, tile)),
    ...(isWholeVectors && Math.min(size.m, size.n) >= HALF_SIDE
      ? [halved(variant(tiledHalfKernel, wideTiles(size)[0]))]
      : []),
  ];
}

const halved = (variant: Variant): Variant => ({
  ...variant,
  name: `16 bits, ${variant.name}`,
  needs: ["shader-f16"],
  rounds: true,
  half: true,
});

/** Tiles of product_tiled.wgsl for a size, the best for GPUs first. */
function squareTiles({ m, n }: ProductSize): readonly [SquareTile, ...SquareTile[]] {
  const side = Math.min(m, n);
  const narrow = NARROW_TILES.find(({ columns }) => side <= columns);
  if (narrow) {
    const { groupY, groupX } = narrow;
    return [n <= m ? narrow : { ...narrow, groupY: groupX, groupX: groupY }];
  }
  return wideTiles({ m, n });
}

function wideTiles({ m, n }: Pick<ProductSize, "m" | "n">): readonly [SquareTile, SquareTile] {
  const isLarge = Math.ceil(m / LARGE_SIDE) * Math.ceil(n / LARGE_SIDE) >= ENOUGH_WORKGROUPS;
  return isLarge ? [LARGE_TILE, MEDIUM_TILE] : [MEDIUM_TILE, LARGE_TILE];
}

/** Variants whose subgroups share what they load, if c fills their tiles and operands can be bound as vectors. */
function subgroupVariants(launch: ProductLaunch): Variant[] {
  const { size, entry, format } = launch;
  if (!canBindVectors(launch)) return [];
  const hasNarrowKernel = format === "f32" && NARROW_ENTRIES.has(entry);
  return SUBGROUP_TILES.flatMap(({ subgroup, ...tile }) => {
    if (size.n <= subgroup) return hasNarrowKernel && size.m > subgroup ? [narrowVariant(launch, subgroup)] : [];
    const m = size.m <= 8 && subgroup <= 8 ? 8 : tile.m;
    const isWide = SUBGROUP_ENTRIES.has(entry) && size.m >= m / 2;
    return isWide ? [wideVariant(launch, { subgroup, m, n: tile.n })] : [];
  });
}

function wideVariant(launch: ProductLaunch, tile: (typeof SUBGROUP_TILES)[number]): Variant {
  const { size, a, b, format } = launch;
  const { subgroup } = tile;
  const isAlongK = isVectorAlongK(launch, b);
  // Packed formats are unpacked in vectors along k only: across k the loop would become too long.
  const steps = isAlongK || (format === "f32" && size.k % VECTOR === 0) ? VECTOR : 1;
  // With four steps, a tile of half the width is as fast and compiles sooner.
  const n = steps === VECTOR ? Math.min(tile.n, 4) : tile.n;
  // Reading vectors along n made only nf4 faster.
  const isAlongN = format === "nf4" && steps === 1 && n % VECTOR === 0 && isVectorAcrossK(b, size.n);
  return {
    name: `subgroups of ${subgroup}, ${tile.m} x ${n}`,
    kernel: subgroupKernel,
    constants: {
      FORMAT: formatCode(launch),
      STEPS: steps,
      A_ALONG_K: Number(steps === VECTOR && isVectorAlongK(launch, a)),
      B_ALONG_K: Number(isAlongK),
      B_ALONG_N: Number(isAlongN),
      SUBGROUP: subgroup,
      TILE_M: tile.m,
      TILE_N: n,
    },
    workgroups: Math.ceil(size.m / tile.m) * Math.ceil(size.n / (subgroup * n)),
    subgroup,
    flops: flopsOf(size),
  };
}

function narrowVariant(launch: ProductLaunch, subgroup: number): Variant {
  const { size, a, b } = launch;
  return {
    name: `narrow, subgroups of ${subgroup}`,
    kernel: narrowKernel,
    constants: {
      A_ALONG_K: Number(isVectorAlongK(launch, a)),
      B_ALONG_K: Number(isVectorAlongK(launch, b)),
      SUBGROUP: subgroup,
      ROWS: NARROW_ROWS,
      COLUMNS: size.n,
    },
    workgroups: Math.ceil(size.m / (subgroup * NARROW_ROWS)),
    subgroup,
    flops: flopsOf(size),
  };
}

/** Floating-point operations of a product [m, k] [k, n]. */
export function productFlops(m: number, n: number, k: number): number {
  return 2 * m * n * k;
}

const flopsOf = ({ m, n, k }: ProductSize): number => productFlops(m, n, k);
