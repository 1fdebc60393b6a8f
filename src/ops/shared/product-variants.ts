import narrowKernel from "../../../kernels/product_narrow_subgroup.wgsl";
import splitKernel from "../../../kernels/product_split.wgsl";
import sharedKernel from "../../../kernels/product_shared.wgsl";
import subgroupKernel from "../../../kernels/product_subgroup.wgsl";
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

/** One launch of a product. */
export interface ProductLaunch {
  readonly size: ProductSize;
  readonly entry: ProductEntry;
  readonly a: OperandLayout;
  readonly b: OperandLayout;
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

/** Tiles of product_shared.wgsl, with the number of steps of k that it loads at a time. */
const SHARED_TILES: Readonly<Record<Form, readonly (Tile & { readonly depth: number })[]>> = {
  narrow: [{ m: 2, n: 1, groupX: 8, groupY: 16, depth: 32 }],
  short: [{ m: 2, n: 1, groupX: 64, groupY: 4, depth: 16 }],
  wide: [
    { m: 4, n: 4, groupX: 8, groupY: 8, depth: 16 },
    { m: 8, n: 4, groupX: 16, groupY: 8, depth: 16 },
    { m: 8, n: 8, groupX: 16, groupY: 16, depth: 8 },
  ],
};

/** Tiles of product_subgroup.wgsl, for each subgroup size. */
const SUBGROUP_TILES: readonly { readonly subgroup: number; readonly m: number; readonly n: number }[] = [
  { subgroup: 4, m: 16, n: 8 },
  { subgroup: 8, m: 16, n: 8 },
  { subgroup: 16, m: 16, n: 4 },
  { subgroup: 32, m: 32, n: 4 },
  { subgroup: 64, m: 64, n: 2 },
];

/** Invocations that share a sum in product_split.wgsl. */
const SPLIT_SLICES = 16;
/** Maximum of the smaller side of c for product_split.wgsl. */
const SPLIT_MAX_SIDE = 64;

/** Rows of c that an invocation of product_narrow_subgroup.wgsl computes. */
const NARROW_ROWS = 4;

/** Entries of product_shared.wgsl and product_subgroup.wgsl, then of the other two. */
const SHARED_ENTRIES: ReadonlySet<ProductEntry> = new Set([
  "plain",
  "with_bias",
  "low_rank",
  "low_rank_with_bias",
  "low_rank_dropped",
]);
const NARROW_ENTRIES: ReadonlySet<ProductEntry> = new Set(["plain", "dropped_a"]);
const SPLIT_ENTRIES: ReadonlySet<ProductEntry> = new Set(["plain", "dropped_b"]);

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

/** The variants of a product. All give the same bits, except product_split.wgsl. `portable` is product.wgsl. */
export function productVariants(launch: ProductLaunch, portable: Kernel): Variant[] {
  return [
    ...subgroupVariants(launch),
    ...sharedVariants(launch),
    ...tileVariants(launch, portable),
    ...splitVariants(launch),
  ];
}

const formatCode = ({ format }: ProductLaunch): number => WEIGHT_FORMATS.indexOf(format);

/** Elements that the subgroup kernels read at a time, as a vec4. */
const VECTOR = 4;
const VECTOR_BYTES = 16;

/** Whether an operand can be read as aligned vectors along k. */
const isVectorAlongK = ({ size }: ProductLaunch, { start, alongK, acrossK }: OperandLayout): boolean =>
  alongK === 1 && [size.k, start, acrossK].every((count) => count % VECTOR === 0);

/** Whether b can be read as aligned vectors along n. */
const isVectorAlongN = ({ size, b }: ProductLaunch): boolean =>
  b.acrossK === 1 && [size.n, b.start, b.alongK].every((count) => count % VECTOR === 0);

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

/** Variants that load tiles to workgroup memory, if c fills more than half of a workgroup's tile. */
function sharedVariants(launch: ProductLaunch): Variant[] {
  const { size, entry } = launch;
  if (!SHARED_ENTRIES.has(entry)) return [];
  const form = formOf(size);
  return SHARED_TILES[form].flatMap((tile) => {
    const [rows, columns] = [tile.m * tile.groupY, tile.n * tile.groupX];
    if ((form !== "short" && 2 * size.m <= rows) || (form !== "narrow" && 2 * size.n <= columns)) return [];
    const { constants, workgroups } = tiled(size, tile);
    return {
      name: `shared memory, ${rows} x ${columns}`,
      kernel: sharedKernel,
      constants: { FORMAT: formatCode(launch), ...constants, DEPTH: tile.depth },
      workgroups,
      flops: flopsOf(size),
    };
  });
}

/** Variants whose subgroups share what they load, if c fills their tiles and operands can be bound as vectors. */
function subgroupVariants(launch: ProductLaunch): Variant[] {
  const { size, entry, a, b, format } = launch;
  if ([a, b].some(({ bytes }) => bytes % VECTOR_BYTES > 0)) return [];
  const hasNarrowKernel = format === "f32" && NARROW_ENTRIES.has(entry);
  return SUBGROUP_TILES.flatMap(({ subgroup, ...tile }) => {
    if (size.n <= subgroup) return hasNarrowKernel && size.m > subgroup ? [narrowVariant(launch, subgroup)] : [];
    const m = size.m <= 8 && subgroup <= 8 ? 8 : tile.m;
    const isWide = SHARED_ENTRIES.has(entry) && size.m >= m / 2;
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
  const isAlongN = format === "nf4" && steps === 1 && n % VECTOR === 0 && isVectorAlongN(launch);
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

/** The variant in which several invocations share a sum over k, if c is too small for its tiles to fill a device. */
function splitVariants({ size, entry, format }: ProductLaunch): Variant[] {
  const isSmall = Math.min(size.m, size.n) <= SPLIT_MAX_SIDE && size.k >= 4 * SPLIT_SLICES;
  if (!isSmall || !SPLIT_ENTRIES.has(entry) || format !== "f32") return [];
  const tile: Tile = size.m <= size.n ? { m: 8, n: 1, groupX: 16, groupY: 1 } : { m: 1, n: 8, groupX: 1, groupY: 16 };
  const { workgroups } = tiled(size, tile);
  return [
    {
      name: `sums in ${SPLIT_SLICES} slices`,
      kernel: splitKernel,
      constants: { TILE_M: tile.m, TILE_N: tile.n, GROUP_M: tile.groupY, GROUP_N: tile.groupX, SLICES: SPLIT_SLICES },
      workgroups,
      flops: flopsOf(size),
      rounds: true,
    },
  ];
}

/** Floating-point operations of a product [m, k] [k, n]. */
export function productFlops(m: number, n: number, k: number): number {
  return 2 * m * n * k;
}

const flopsOf = ({ m, n, k }: ProductSize): number => productFlops(m, n, k);
