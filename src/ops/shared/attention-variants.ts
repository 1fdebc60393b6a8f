import subgroupKernel from "../../../kernels/attention_subgroup.wgsl";
import tiledKernel from "../../../kernels/attention_tiled.wgsl";
import type { Kernel } from "../../op/kernel";
import type { AbsorbedLaunch, Absorption, Launch, Variant } from "../../op/launch";

/** The sizes and options that the variants of an attention launch depend on. */
export interface AttentionSize {
  readonly entry: string;
  /** Rows of the batch. */
  readonly texts: number;
  /** Heads of the output: the key-value heads for gradients of keys and values, else the query heads. */
  readonly heads: number;
  /** Tokens in a text. */
  readonly time: number;
  /** Elements in a head. */
  readonly head: number;
  readonly causal: boolean;
  readonly dropping: boolean;
}

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
};

/** Entries of attention_subgroup.wgsl. */
const SUBGROUP_ENTRIES: ReadonlySet<string> = new Set([
  "forward",
  "grad_q",
  "grad_k_v",
  "grad_k_v_fused",
  "grad_q_k_v",
  "grad_q_k_v_fused",
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

/** Default number of rows, and invocations, of a workgroup of attention.wgsl. */
export const DEFAULT_GROUP = 32;
const OTHER_GROUPS: readonly number[] = [64, 128];

/** The variants of an attention launch, and the launch's shape for tuning. `portable` is attention.wgsl. */
export function attentionVariants(size: AttentionSize, portable: Kernel): Pick<Launch, "variants" | "shape"> {
  const { entry, texts, heads, time, head, causal, dropping } = size;
  // Nothing is multiplied by time, so that a tuner need not try it.
  if (entry === "temp_statistics") return { variants: tiledVariants(size) };
  const traits = [`head ${head}`, ...(causal ? ["causal"] : []), ...(dropping ? ["dropout"] : [])];
  return {
    variants: [
      ...subgroupVariants(size),
      ...tiledVariants(size),
      ...OTHER_GROUPS.map((group) => groupVariant(size, portable, group)),
    ],
    shape: { sizes: { heads: texts * heads, time }, traits },
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

/** A variant with other workgroups. Each row is computed by one invocation, so the bits are the same. */
const groupVariant = (size: AttentionSize, kernel: Kernel, group: number): Variant => ({
  name: `groups of ${group}`,
  kernel,
  constants: { HEAD: size.head, GROUP: group },
  ...workOf(size, group),
});

/** Variants that sum over keys tile by tile, which changes the rounding. They load four elements at a time. */
function subgroupVariants(size: AttentionSize): Variant[] {
  if (!SUBGROUP_ENTRIES.has(size.entry) || size.head > MAX_SUBGROUP_HEAD || size.head % 4 !== 0) return [];
  return TILES.map(({ subgroup, rows, columns }) => ({
    name: `subgroups of ${subgroup}, ${rows} x ${subgroup * columns}`,
    kernel: subgroupKernel,
    constants: { HEAD: size.head, SUBGROUP: subgroup, ROWS: rows, COLUMNS: columns },
    ...workOf(size, rows),
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
  const { entry, head } = size;
  if (head > MAX_TILED_HEAD || head % 4 !== 0) return [];
  const columnLanes = entry.startsWith("grad_k_v") ? (head <= 32 ? 8 : head <= 128 ? 16 : 32) : head <= 128 ? 8 : 16;
  const rows = 4 * (TILED_LANES / columnLanes);
  return [
    {
      name: `tiles of ${rows} x ${4 * columnLanes}`,
      kernel: tiledKernel,
      constants: { HEAD: head, COLUMN_LANES: columnLanes },
      ...workOf(size, rows),
      rounds: true,
      gpu: true,
    },
  ];
}

/** Workgroups of `rows` rows each, and floating-point operations. */
function workOf(
  { entry, texts, heads, time, head }: AttentionSize,
  rows: number,
): Pick<Variant, "workgroups" | "flops"> {
  const products = PRODUCTS[entry];
  // What is not a product with a time x time matrix is one dot product a row.
  const perRow = products === undefined ? 1 : products * time;
  const flops = 2 * perRow * texts * heads * time * head;
  return { workgroups: texts * heads * Math.ceil(time / rows), flops };
}
