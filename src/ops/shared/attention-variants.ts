import subgroupCode from "../../../kernels/attention_subgroup.wgsl";
import type { Kernel } from "../../op/kernel";
import type { Joint, Launch, Variant } from "../../op/launch";

/** What the variants of an attention launch depend on. */
export interface AttentionSize {
  readonly entry: string;
  readonly texts: number;
  /** Heads of what it writes: fewer for keys and values where heads share them. */
  readonly heads: number;
  readonly time: number;
  readonly head: number;
  readonly causal: boolean;
  readonly dropping: boolean;
}

/** Products of a time x time matrix that an entry computes. */
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

/** Entries of attention_subgroup.wgsl, and the widest head that it takes; it reads four elements at once. */
const TILED: ReadonlySet<string> = new Set([
  ...["forward", "grad_q", "grad_k_v", "grad_k_v_fused", "grad_q_k_v", "grad_q_k_v_fused"],
]);
const WIDEST_TILED = 128;

/** Its tiles, by the size of subgroups: rows, and columns for each invocation; the first of a size is the usual one. */
const TILES: readonly { readonly subgroup: number; readonly rows: number; readonly columns: number }[] = [
  { subgroup: 4, rows: 8, columns: 2 },
  { subgroup: 8, rows: 16, columns: 2 },
  { subgroup: 16, rows: 16, columns: 1 },
  { subgroup: 16, rows: 16, columns: 2 },
  { subgroup: 32, rows: 32, columns: 1 },
  { subgroup: 32, rows: 32, columns: 2 },
];

/** Rows of a workgroup of attention.wgsl: usually, and otherwise. */
export const USUAL_GROUP = 32;
const OTHER_GROUPS: readonly number[] = [64, 128];

/** Every other way to run an entry, and what decides which is fastest. `portable` is attention.wgsl. */
export function attentionVariants(size: AttentionSize, portable: Kernel): Pick<Launch, "variants" | "shape"> {
  const { entry, texts, heads, time, head, causal, dropping } = size;
  if (PRODUCTS[entry] === undefined) return {};
  const traits = [`head ${head}`, ...(causal ? ["causal"] : []), ...(dropping ? ["dropout"] : [])];
  return {
    variants: [...tiledVariants(size), ...OTHER_GROUPS.map((group) => groupVariant(size, portable, group))],
    shape: { sizes: { heads: texts * heads, time }, traits },
  };
}

/**
 * All gradients in one dispatch, which makes the scores once rather than twice. A workgroup then works on a whole head; with
 * fewer than these, cores would idle.
 */
const LEAST_JOINT = 16;

/** @param size of the gradient of keys and values, whose entry is the joint one's without `_q`. */
export function jointGradients(size: AttentionSize, variables: readonly string[]): Joint | undefined {
  const workgroups = size.texts * size.heads;
  if (workgroups < LEAST_JOINT) return undefined;
  const entry = size.entry.replace("grad_k_v", "grad_q_k_v");
  const variants = tiledVariants({ ...size, entry }).map((one) => ({ ...one, name: `joint, ${one.name}`, workgroups }));
  return { entry, variables, variants: variants.filter(({ subgroup }, i) => subgroup !== variants[i - 1]?.subgroup) };
}

/** Every row is an invocation's own, so other groups give the same bits. */
const groupVariant = (size: AttentionSize, kernel: Kernel, group: number): Variant => ({
  name: `groups of ${group}`,
  kernel,
  constants: { HEAD: size.head, GROUP: group },
  ...workOf(size, group),
});

/** Sums over keys tile by tile round otherwise than one after the other. */
function tiledVariants(size: AttentionSize): Variant[] {
  if (!TILED.has(size.entry) || size.head > WIDEST_TILED || size.head % 4 !== 0) return [];
  return TILES.map(({ subgroup, rows, columns }) => ({
    name: `subgroups of ${subgroup}, ${rows} x ${subgroup * columns}`,
    kernel: { name: "attention_subgroup", code: subgroupCode },
    constants: { HEAD: size.head, SUBGROUP: subgroup, ROWS: rows, COLUMNS: columns },
    ...workOf(size, rows),
    subgroup,
    rounds: true,
  }));
}

/** @param rows of a workgroup. */
function workOf(
  { entry, texts, heads, time, head }: AttentionSize,
  rows: number,
): Pick<Variant, "workgroups" | "flops"> {
  const flops = 2 * (PRODUCTS[entry] ?? 0) * texts * heads * time ** 2 * head;
  return { workgroups: texts * heads * Math.ceil(time / rows), flops };
}
