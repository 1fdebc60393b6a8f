import narrowCode from "../../../kernels/product_narrow_subgroup.wgsl";
import sharedCode from "../../../kernels/product_shared.wgsl";
import subgroupCode from "../../../kernels/product_subgroup.wgsl";
import { WEIGHT_FORMATS } from "../../base/packed";
import type { WeightFormat } from "../../base/packed";
import type { Kernel } from "../../op/kernel";
import type { Variant } from "../../op/launch";

/** Rows and columns of c, and steps of the sum. */
export type ProductSize = Readonly<Record<"m" | "n" | "k", number>>;

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

/** Rows of c that an invocation of product_narrow_subgroup.wgsl holds. */
const NARROW_ROWS = 8;

/** Entries that the kernels beside product.wgsl have. */
const SHARED_ENTRIES: ReadonlySet<ProductEntry> = new Set([
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

/** Every other way to run an entry, all to the same bits. `portable` is product.wgsl. */
export function productVariants(
  size: ProductSize,
  entry: ProductEntry,
  portable: Kernel,
  format: WeightFormat,
): Variant[] {
  const FORMAT = WEIGHT_FORMATS.indexOf(format);
  return [
    ...subgroupVariants(size, entry, format),
    ...sharedVariants(size, entry, FORMAT),
    ...tileVariants(size, portable, FORMAT),
  ];
}

/** Other register tiles of product.wgsl. */
function tileVariants(size: ProductSize, kernel: Kernel, FORMAT: number): Variant[] {
  const [, ...others] = PORTABLE_TILES[formOf(size)];
  return others.map((tile) => {
    const { constants, workgroups } = tiled(size, tile);
    const name = `tiles of ${tile.m} x ${tile.n}`;
    return { name, kernel, constants: { FORMAT, ...constants }, workgroups, flops: flopsOf(size) };
  });
}

/** Blocks in workgroup memory, where c fills more than half of one. */
function sharedVariants(size: ProductSize, entry: ProductEntry, FORMAT: number): Variant[] {
  if (!SHARED_ENTRIES.has(entry)) return [];
  const form = formOf(size);
  return SHARED_TILES[form].flatMap((tile) => {
    const [rows, columns] = [tile.m * tile.groupY, tile.n * tile.groupX];
    if ((form !== "short" && 2 * size.m <= rows) || (form !== "narrow" && 2 * size.n <= columns)) return [];
    const { constants, workgroups } = tiled(size, tile);
    return {
      name: `shared memory, ${rows} x ${columns}`,
      kernel: { name: "product_shared", code: sharedCode },
      constants: { FORMAT, ...constants, DEPTH: tile.depth },
      ...{ workgroups, flops: flopsOf(size) },
    };
  });
}

/** The kernels whose invocations share what they load, where c fills their tiles. */
function subgroupVariants(size: ProductSize, entry: ProductEntry, format: WeightFormat): Variant[] {
  const { m, n } = size;
  const isNarrow = format === "f32" && NARROW_ENTRIES.has(entry);
  return SUBGROUP_TILES.flatMap(({ subgroup, ...tile }) => {
    if (n <= subgroup) return isNarrow && m > subgroup ? [narrowVariant(size, subgroup)] : [];
    const high = m <= 8 && subgroup <= 8 ? 8 : tile.m;
    const isWide = SHARED_ENTRIES.has(entry) && m >= high / 2;
    return isWide ? [wideVariant(size, { subgroup, m: high, n: tile.n }, format)] : [];
  });
}

function wideVariant(size: ProductSize, tile: (typeof SUBGROUP_TILES)[number], format: WeightFormat): Variant {
  const { subgroup } = tile;
  return {
    name: `subgroups of ${subgroup}, ${tile.m} x ${tile.n}`,
    kernel: { name: "product_subgroup", code: subgroupCode },
    constants: { FORMAT: WEIGHT_FORMATS.indexOf(format), SUBGROUP: subgroup, TILE_M: tile.m, TILE_N: tile.n },
    workgroups: Math.ceil(size.m / tile.m) * Math.ceil(size.n / (subgroup * tile.n)),
    subgroup,
    flops: flopsOf(size),
  };
}

const narrowVariant = (size: ProductSize, subgroup: number): Variant => ({
  name: `narrow, subgroups of ${subgroup}`,
  kernel: { name: "product_narrow_subgroup", code: narrowCode },
  constants: { SUBGROUP: subgroup, ROWS: NARROW_ROWS, COLUMNS: size.n },
  workgroups: Math.ceil(size.m / (subgroup * NARROW_ROWS)),
  subgroup,
  flops: flopsOf(size),
});

/** Floating-point operations of an m x n x k product. */
export function productFlops(m: number, n: number, k: number): number {
  return 2 * m * n * k;
}

const flopsOf = ({ m, n, k }: ProductSize): number => productFlops(m, n, k);
