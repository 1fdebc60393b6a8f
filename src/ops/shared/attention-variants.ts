import subgroupKernel from "../../../kernels/attention_subgroup.wgsl";
import tiledKernel from "../../../kernels/attention_tiled.wgsl";
import { substituting } from "../../op/kernel";
import type { Kernel } from "../../op/kernel";
import type { AbsorbedLaunch, Absorption, Launch, Variant } from "../../op/launch";

/** The sizes and options that the variants of an attention launch depend on. */
export interface AttentionSize {
  readonly entry: string;
  /** Rows of the batch. */
  readonly texts: number;
  /** Heads of the output: the key-value heads for gradients of keys and values, else the query heads. */
  readonly heads: number;
  /** Queries of a text. */
  readonly time: number;
  /** Keys of a text. */
  readonly keys: number;
  /** Elements in a head. */
  readonly head: number;
  /** Whether keys before a query's own are out of its sight. */
  readonly windowed: boolean;
  readonly causal: boolean;
  readonly capped: boolean;
  readonly segmented: boolean;
  /** The table by which attention depends on positions, if there is one, and whether these are those of a grid. */
  readonly relative: RelativeKernels | undefined;
  readonly grid: boolean;
  readonly dropping: boolean;
}

/**
 * What attention by differences of positions has for each of them: a number a head, which is added to scores, or rows of a key
 * and a query a head, with which queries and keys are multiplied.
 */
type RelativeForm = "numbers" | "rows";

/** What kernels of attention are made of where scores depend on the difference of positions by a table. */
export interface RelativeKernels {
  readonly form: RelativeForm;
  /** Number of differences, for which the table has entries. */
  readonly entries: number;
  /** Parts of attention.wgsl and its variants, by the names of the kernel and of the parts whose place they take. */
  readonly parts: Readonly<Record<string, Parts>>;
}

/** Parts of a kernel that take the place of others, by the names of these. */
type Parts = NonNullable<Kernel["substitutes"]>;

/** Number of matrix products with a time x time matrix that an entry computes. */
const PRODUCTS: Readonly<Record<string, number>> = {
  forward: 2,
  grad_q: 3,
  grad_k: 3,
  grad_v: 2,
  grad_k_v: 4,
  grad_k_v_fused: 4,
  grad_q_k_v: 5,
  grad_q_k_v_fused: 5,
  grad_relative: 2,
  grad_relative_rows: 6,
};

/** Entries of attention_subgroup.wgsl. */
const SUBGROUP_ENTRIES: ReadonlySet<string> = new Set([
  "forward",
  "grad_q",
  "grad_k",
  "grad_v",
  "grad_k_v",
  "grad_k_v_fused",
  "grad_q_k_v",
  "grad_q_k_v_fused",
  "grad_relative",
  "grad_relative_rows",
]);

/** Maximum elements in a head for attention_subgroup.wgsl. */
const MAX_SUBGROUP_HEAD = 128;

/** Maximum elements in a head for attention_tiled.wgsl. */
const MAX_TILED_HEAD = 256;

/** Tiles of attention_subgroup.wgsl: rows, and columns of an invocation. The first of a subgroup size is the default. */
const TILES: readonly { readonly subgroup: number; readonly rows: number; readonly columns: number }[] = [
  { subgroup: 4, rows: 8, columns: 2 },
  { subgroup: 8, rows: 16, columns: 2 },
  { subgroup: 16, rows: 16, columns: 1 },
  { subgroup: 16, rows: 16, columns: 2 },
  { subgroup: 32, rows: 32, columns: 1 },
  { subgroup: 32, rows: 32, columns: 2 },
];

/**
 * Largest subgroups whose tiles have products with rows of a table by differences: those of software adapters. Tiles of 32 x 32 have
 * differences for which registers of a GPU have no room, and RADV's compiler (Mesa 25.0.7) ends with a fault.
 */
const MAX_DIFFERENCE_SUBGROUP = 8;

/** Numbers of rows, and invocations, of a workgroup of attention.wgsl; the first is the default. */
const GROUPS = [32, 64, 128] as const;

/** Whether an entry computes something of each key rather than of each query. */
export const isOfKeys = (entry: string): boolean => entry.startsWith("grad_k") || entry.startsWith("grad_v");

/** Whether an entry computes the gradient of a table by differences of positions. */
export const isOfTable = (entry: string): boolean => entry.startsWith("grad_relative");

/** The constants of all kernels of attention that decide what a score is. */
const scoreConstants = (size: AttentionSize): Record<string, number> => {
  const { head, windowed, capped, segmented, relative, grid } = size;
  return {
    HEAD: head,
    ...(windowed && { WINDOWED: 1 }),
    ...(capped && { CAPPED: 1 }),
    ...(segmented && { SEGMENTED: 1 }),
    ...(relative && { RELATIVE: relative.form === "numbers" ? 1 : 2 }),
    ...(grid && { GRID: 1 }),
  };
};

/** Kernels with their parts, by these, so that a pipeline is made once for each. */
const withParts = new Map<Parts, Kernel>();

/** A kernel as it runs where parts of it read a table. */
function kernelFor(kernel: Kernel, relative: RelativeKernels | undefined): Kernel {
  const parts = relative?.parts[kernel.name];
  if (!parts) return kernel;
  const reading = withParts.get(parts) ?? substituting(kernel, parts);
  withParts.set(parts, reading);
  return reading;
}

/** How an attention launch runs by `portable`, which is attention.wgsl, its variants, and its shape for tuning. */
export function attentionKernels(
  size: AttentionSize,
  portable: Kernel,
): Pick<Launch, "kernel" | "constants" | "workgroups" | "variants" | "shape"> {
  const { entry, texts, heads, time, keys, head, windowed, causal, capped, segmented, dropping } = size;
  const { kernel, constants, workgroups } = groupVariant(size, portable, GROUPS[0]);
  // Nothing is multiplied by keys, so that a tuner need not try it.
  if (entry === "temp_statistics") return { kernel, constants, workgroups, variants: tiledVariants(size) };
  const options = { causal, window: windowed, cap: capped, segments: segmented, dropout: dropping };
  const traits = [
    `head ${head}`,
    ...Object.entries(options).flatMap(([name, is]) => (is ? [name] : [])),
    ...(size.relative ? [`relative ${size.relative.form}`] : []),
  ];
  return {
    kernel,
    constants,
    workgroups,
    variants: [
      ...subgroupVariants(size),
      ...tiledVariants(size),
      ...GROUPS.slice(1).map((group) => groupVariant(size, portable, group)),
    ],
    shape: { sizes: { heads: texts * heads, time, ...(keys !== time && { keys }) }, traits },
  };
}

/** A dispatch of all gradients has one workgroup for each head. With fewer than this, cores would idle. */
const MIN_JOINED_WORKGROUPS = 16;

/**
 * How the gradients of keys and values absorb those of queries, so that the scores are computed once rather than twice. No variant
 * of it is meant for GPUs, where it has too few workgroups. `size` is that of the gradients of keys and values.
 */
export function joinedGradients(size: AttentionSize, queries: AbsorbedLaunch): Absorption[] {
  const workgroups = size.texts * size.heads;
  if (workgroups < MIN_JOINED_WORKGROUPS) return [];
  const by = size.entry.replace("grad_k_v", "grad_q_k_v");
  const variants = subgroupVariants({ ...size, entry: by })
    .filter(({ subgroup }, i, all) => subgroup !== all[i - 1]?.subgroup)
    .map((variant) => ({ ...variant, name: `joint, ${variant.name}`, workgroups }));
  return [{ before: [queries], by, variants }];
}

/** A variant with other workgroups. One invocation computes a row, so the bits are the same; an entry of a table is summed by all. */
const groupVariant = (size: AttentionSize, kernel: Kernel, group: number): Variant => ({
  name: `groups of ${group}`,
  rounds: isOfTable(size.entry),
  kernel: kernelFor(kernel, size.relative),
  constants: { ...scoreConstants(size), GROUP: group },
  ...workOf(size, group),
});

/** Variants that sum over keys tile by tile, which changes the rounding. They load four elements at a time. */
function subgroupVariants(size: AttentionSize): Variant[] {
  const { entry, head, relative, grid } = size;
  const fits = head <= MAX_SUBGROUP_HEAD && head % 4 === 0;
  if (!SUBGROUP_ENTRIES.has(entry) || !fits) return [];
  const readsByDifference = relative !== undefined && (relative.form === "rows" || isOfTable(entry));
  // Differences of a tile are one row of the table where positions are one row.
  if (readsByDifference && grid) return [];
  const tiles = readsByDifference ? TILES.filter(({ subgroup }) => subgroup <= MAX_DIFFERENCE_SUBGROUP) : TILES;
  return tiles.map(({ subgroup, rows, columns }) => ({
    name: `subgroups of ${subgroup}, ${rows} x ${subgroup * columns}`,
    kernel: kernelFor(subgroupKernel, relative),
    constants: { ...scoreConstants(size), SUBGROUP: subgroup, ROWS: rows, COLUMNS: columns },
    ...workOf(size, rows, rows),
    subgroup,
    rounds: true,
  }));
}

/** Invocations of a workgroup of attention_tiled.wgsl, each with four rows. */
const TILED_LANES = 128;

/**
 * Tiles in workgroup memory, which sum in another order. An invocation sums at most four vectors of a head for each of its rows, two
 * each for keys and values, so that a GPU's registers hold them: with wider heads, more invocations share a row.
 */
function tiledVariants(size: AttentionSize): Variant[] {
  const { entry, head, relative, grid } = size;
  if (isOfTable(entry) || head > MAX_TILED_HEAD || head % 4 !== 0) return [];
  // Differences of a tile are one row of the table where positions are one row.
  if (grid && relative?.form === "rows") return [];
  const columnLanes = entry.startsWith("grad_k_v") ? (head <= 32 ? 8 : head <= 128 ? 16 : 32) : head <= 128 ? 8 : 16;
  const rows = 4 * (TILED_LANES / columnLanes);
  return [
    {
      name: `tiles of ${rows} x ${4 * columnLanes}`,
      kernel: kernelFor(tiledKernel, relative),
      constants: { ...scoreConstants(size), COLUMN_LANES: columnLanes },
      ...workOf(size, rows),
      rounds: true,
      gpu: true,
    },
  ];
}

/** Workgroups of so many rows, or entries of a table, each, and floating-point operations. */
function workOf(
  { entry, texts, heads, time, keys, head, relative }: AttentionSize,
  rowsPerGroup: number,
  entriesPerGroup = 1,
): Pick<Variant, "workgroups" | "flops"> {
  const products = PRODUCTS[entry];
  // What is not a product with a time x time matrix is one dot product a row.
  const [rows, columns] = isOfKeys(entry) ? [keys, time] : [time, keys];
  const perRow = products === undefined ? 1 : products * columns;
  const flops = 2 * perRow * texts * heads * rows * head;
  const groupsPerHead =
    relative && isOfTable(entry)
      ? Math.ceil(relative.entries / entriesPerGroup)
      : texts * Math.ceil(rows / rowsPerGroup);
  return { workgroups: groupsPerHead * heads, flops };
}
