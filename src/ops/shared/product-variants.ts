import narrowCode from "../../../kernels/product_narrow_subgroup.wgsl";
import splitCode from "../../../kernels/product_split.wgsl";
import sharedCode from "../../../kernels/product_shared.wgsl";
import subgroupCode from "../../../kernels/product_subgroup.wgsl";
import { WEIGHT_FORMATS } from "../../base/packed";
import type { WeightFormat } from "../../base/packed";
import type { Kernel } from "../../op/kernel";
import type { Variant } from "../../op/launch";

/** Rows and columns of c, and steps of the sum. */
export type ProductSize = Readonly<Record<"m" | "n" | "k", number>>;

/** How an operand lies: where it begins, how far apart neighbours along k and across it are, in elements, and its bytes. */
export interface OperandLayout {
  readonly start: number;
  readonly alongK: number;
  readonly acrossK: number;
  readonly bytes: number;
}

/** One launch of a product, as its kernels see it. */
export interface ProductLaunch {
  readonly size: ProductSize;
  readonly entry: ProductEntry;
  readonly a: OperandLayout;
  readonly b: OperandLayout;
  /** How b is stored. */
  readonly format: WeightFormat;
}

/** Entries of product.wgsl. */
export type ProductEntry =
  "plain" | "with_bias" | "low_rank" | "low_rank_with_bias" | "low_rank_dropped" | "dropped_a" | "dropped_b";

/** The register tile of an invocation, and how many invocations a workgroup has in each direction. */
interface Tile {
  readonly m: number;
  readonly n: number;
  readonly groupX: number;
  readonly groupY: number;
}

/** By the shape of c, since where a rank-r matrix is narrow or short, a square tile would idle; the first is the usual one. */
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

/** Tiles of product_shared.wgsl, with the steps of k that it fetches at once. */
const SHARED_TILES: Readonly<Record<Form, readonly (Tile & { readonly depth: number })[]>> = {
  narrow: [{ m: 2, n: 1, groupX: 8, groupY: 16, depth: 32 }],
  short: [{ m: 2, n: 1, groupX: 64, groupY: 4, depth: 16 }],
  wide: [
    { m: 4, n: 4, groupX: 8, groupY: 8, depth: 16 },
    { m: 8, n: 4, groupX: 16, groupY: 8, depth: 16 },
    { m: 8, n: 8, groupX: 16, groupY: 16, depth: 8 },
  ],
};

/** Tiles of product_subgroup.wgsl, by the size of subgroups. */
const SUBGROUP_TILES: readonly { readonly subgroup: number; readonly m: number; readonly n: number }[] = [
  { subgroup: 4, m: 16, n: 8 },
  { subgroup: 8, m: 16, n: 8 },
  { subgroup: 16, m: 16, n: 4 },
  { subgroup: 32, m: 32, n: 4 },
  { subgroup: 64, m: 64, n: 2 },
];

/** Invocations that share a sum in product_split.wgsl, and the most rows or columns of c for which they do. */
const [SPLIT_SLICES, SPLIT_WIDEST] = [16, 64];

/** Rows of c that an invocation of product_narrow_subgroup.wgsl holds. */
const NARROW_ROWS = 4;

/** Entries that the kernels beside product.wgsl have. */
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

/** How product.wgsl runs unless a variant is chosen. */
export function portableTile(size: ProductSize): Pick<Variant, "constants" | "workgroups"> {
  return tiled(size, PORTABLE_TILES[formOf(size)][0]);
}

function tiled({ m, n }: ProductSize, tile: Tile): Pick<Variant, "constants" | "workgroups"> {
  return {
    constants: { TILE_M: tile.m, TILE_N: tile.n, GROUP_X: tile.groupX, GROUP_Y: tile.groupY },
    workgroups: Math.ceil(m / (tile.m * tile.groupY)) * Math.ceil(n / (tile.n * tile.groupX)),
  };
}

/** Every other way to run a product; all but the last to the same bits. `portable` is product.wgsl. */
export function productVariants(launch: ProductLaunch, portable: Kernel): Variant[] {
  return [
    ...subgroupVariants(launch),
    ...sharedVariants(launch),
    ...tileVariants(launch, portable),
    ...splitVariants(launch),
  ];
}

const formatCode = ({ format }: ProductLaunch): number => WEIGHT_FORMATS.indexOf(format);

/** Elements that the subgroups' kernels read at once, and the bytes of as many of f32. */
const [FOUR, FOUR_BYTES] = [4, 16];

/** Whether four neighbours along k lie side by side, wherever k is a multiple of four. */
const liesAlongK = ({ size }: ProductLaunch, { start, alongK, acrossK }: OperandLayout): boolean =>
  alongK === 1 && [size.k, start, acrossK].every((count) => count % FOUR === 0);

/** Whether four neighbouring columns of b lie side by side, wherever a column is a multiple of four. */
const liesAlongN = ({ size, b }: ProductLaunch): boolean =>
  b.acrossK === 1 && [size.n, b.start, b.alongK].every((count) => count % FOUR === 0);

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

/** Blocks in workgroup memory, where c fills more than half of one. */
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
      kernel: { name: "product_shared", code: sharedCode },
      constants: { FORMAT: formatCode(launch), ...constants, DEPTH: tile.depth },
      workgroups,
      flops: flopsOf(size),
    };
  });
}

/** The kernels whose invocations share what they load, where c fills their tiles and operands are read four at once. */
function subgroupVariants(launch: ProductLaunch): Variant[] {
  const { size, entry, a, b, format } = launch;
  if ([a, b].some(({ bytes }) => bytes % FOUR_BYTES > 0)) return [];
  const isNarrow = format === "f32" && NARROW_ENTRIES.has(entry);
  return SUBGROUP_TILES.flatMap(({ subgroup, ...tile }) => {
    if (size.n <= subgroup) return isNarrow && size.m > subgroup ? [narrowVariant(launch, subgroup)] : [];
    const high = size.m <= 8 && subgroup <= 8 ? 8 : tile.m;
    const isWide = SHARED_ENTRIES.has(entry) && size.m >= high / 2;
    return isWide ? [wideVariant(launch, { subgroup, m: high, n: tile.n })] : [];
  });
}

function wideVariant(launch: ProductLaunch, tile: (typeof SUBGROUP_TILES)[number]): Variant {
  const { size, a, b, format } = launch;
  const { subgroup } = tile;
  const isAlongK = liesAlongK(launch, b);
  // To unpack four steps of columns that do not lie along k takes too long a loop.
  const steps = isAlongK || (format === "f32" && size.k % FOUR === 0) ? FOUR : 1;
  // With four steps, half as wide is as fast, and made sooner.
  const wide = steps === FOUR ? Math.min(tile.n, 4) : tile.n;
  // Of other formats, four columns at once gained nothing.
  const isAlongN = format === "nf4" && steps === 1 && wide % FOUR === 0 && liesAlongN(launch);
  return {
    name: `subgroups of ${subgroup}, ${tile.m} x ${wide}`,
    kernel: { name: "product_subgroup", code: subgroupCode },
    constants: {
      FORMAT: formatCode(launch),
      STEPS: steps,
      A_ALONG_K: Number(steps === FOUR && liesAlongK(launch, a)),
      B_ALONG_K: Number(isAlongK),
      B_ALONG_N: Number(isAlongN),
      SUBGROUP: subgroup,
      TILE_M: tile.m,
      TILE_N: wide,
    },
    workgroups: Math.ceil(size.m / tile.m) * Math.ceil(size.n / (subgroup * wide)),
    subgroup,
    flops: flopsOf(size),
  };
}

function narrowVariant(launch: ProductLaunch, subgroup: number): Variant {
  const { size, a, b } = launch;
  const along = { A_ALONG_K: Number(liesAlongK(launch, a)), B_ALONG_K: Number(liesAlongK(launch, b)) };
  return {
    name: `narrow, subgroups of ${subgroup}`,
    kernel: { name: "product_narrow_subgroup", code: narrowCode },
    constants: { ...along, SUBGROUP: subgroup, ROWS: NARROW_ROWS, COLUMNS: size.n },
    workgroups: Math.ceil(size.m / (subgroup * NARROW_ROWS)),
    subgroup,
    flops: flopsOf(size),
  };
}

/** Invocations that share the sum over k, where c is too small for its tiles to fill a device. */
function splitVariants({ size, entry, format }: ProductLaunch): Variant[] {
  const isSmall = Math.min(size.m, size.n) <= SPLIT_WIDEST && size.k >= 4 * SPLIT_SLICES;
  if (!isSmall || !SPLIT_ENTRIES.has(entry) || format !== "f32") return [];
  const tile: Tile = size.m <= size.n ? { m: 8, n: 1, groupX: 16, groupY: 1 } : { m: 1, n: 8, groupX: 1, groupY: 16 };
  const { workgroups } = tiled(size, tile);
  return [
    {
      name: `sums in ${SPLIT_SLICES} slices`,
      kernel: { name: "product_split", code: splitCode },
      constants: { TILE_M: tile.m, TILE_N: tile.n, GROUP_M: tile.groupY, GROUP_N: tile.groupX, SLICES: SPLIT_SLICES },
      workgroups,
      flops: flopsOf(size),
      rounds: true,
    },
  ];
}

/** Floating-point operations of an m x n x k product. */
export function productFlops(m: number, n: number, k: number): number {
  return 2 * m * n * k;
}

const flopsOf = ({ m, n, k }: ProductSize): number => productFlops(m, n, k);
