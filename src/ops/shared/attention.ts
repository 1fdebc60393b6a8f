import kernel from "../../../kernels/attention.wgsl";
import { ConfigError, ShapeError } from "../../base/errors";
import { formatShape, sameShape } from "../../base/shape";
import type { LaunchContext } from "../../op/declaration";
import { bindRows, rowRanges } from "../../op/launch";
import type { Launch } from "../../op/launch";
import { attentionKernels, isOfKeys, isOfTable, joinedGradients } from "./attention-variants";
import type { AttentionSize, RelativeKernels } from "./attention-variants";
import { dropoutParams } from "./product";

export type AttentionAttributes = {
  readonly heads: number;
  /** Key-value heads; fewer than `heads` for grouped-query attention. */
  readonly kvHeads: number;
  /** Number of keys before its own position that a query sees; all if absent. */
  readonly before?: number;
  /** Number of keys after its own position that a query sees; all if absent. Causal attention has 0. */
  readonly after?: number;
  /** Number of keys before that of the first query's position, of which there is one for each other key; default 0. */
  readonly prefix?: number;
  /** Factor of the scores, usually 1 / sqrt(head size). */
  readonly scale: number;
  /** Soft cap of the scores: cap * tanh(score / cap); none if absent. */
  readonly cap?: number;
  /** Whether a query sees only keys for which the mask holds the same number; default false. */
  readonly segments?: boolean;
  /** Probability that an attention weight is dropped; 0 for no dropout. */
  readonly dropout: number;
  /** Number of this node among those with dropout, so that each has a mask of its own. */
  readonly salt: number;
};

/** Location of q, k or v within a slot's matrix. */
export interface Stripe {
  readonly slot: string;
  /** Length of the matrix's rows, in elements. */
  readonly row: number;
  /** First column, in elements. */
  readonly offset: number;
}

/** Sizes of one attention node, and the locations of q, k and v. */
export interface AttentionLayout {
  readonly batch: number;
  /** Queries of a text. */
  readonly time: number;
  /** Keys of a text. */
  readonly keys: number;
  /** Elements in a head. */
  readonly head: number;
  readonly q: Stripe;
  readonly k: Stripe;
  readonly v: Stripe;
  /** The table in the slot `relative`, if there is one. */
  readonly relative?: RelativeTable;
}

/** A table with an entry for each difference of the positions of a query and a key. */
export interface RelativeTable extends RelativeKernels {
  /** Columns of the grid on which tokens lie, row by row. */
  readonly columns: number;
}

/** A WGSL variable and its slot, with the length of a row in elements and the number of rows for each text. */
export type Table = readonly [variable: string, slot: string, row: number, rowsPerText: number];

/** The launches of one entry; several, each for some texts, if a table exceeds a binding. */
export function attentionLaunches(
  entry: string,
  tables: readonly Table[],
  layout: AttentionLayout,
  context: LaunchContext<AttentionAttributes>,
  seeded: boolean,
): Launch[] {
  const { heads, kvHeads, scale, cap, dropout, salt } = context.attributes;
  const { batch, time, keys, q, k, v, relative } = layout;
  const { before, after } = spanOf(layout, context.attributes);
  const bytesPerText = tables.map(([, , row, rowsPerText]) => row * rowsPerText * 4);
  const size = sizeOf(entry, layout, context.attributes);
  return rowRanges(batch, bytesPerText, context.limits).map((range) => ({
    entry,
    bindings: {
      ...Object.fromEntries(tables.map(([variable, slot], i) => [variable, bindRows(slot, range, bytesPerText[i]!)])),
      ...(seeded ? { seed: "seed" } : {}),
      ...(relative && entry !== "temp_statistics" ? { relative: "relative" } : {}),
      ...(isOfTable(entry) ? { drelative: "drelative" } : {}),
    },
    params: {
      batch: range.count,
      batch0: range.start,
      time,
      keys,
      heads,
      kv_heads: kvHeads,
      q_row: q.row,
      q_offset: q.offset,
      k_row: k.row,
      k_offset: k.offset,
      v_row: v.row,
      v_offset: v.offset,
      before,
      after,
      scale,
      cap: cap ?? 0,
      ...dropoutParams(dropout, salt),
      dropping: dropout > 0 ? 1 : 0,
      columns: relative?.columns ?? time,
      center: relative ? (relative.entries - 1) / 2 : 0,
      accumulate: isOfTable(entry) && (context.accumulate || range.start > 0) ? 1 : 0,
    },
    ...attentionKernels({ ...size, texts: range.count }, kernel),
  }));
}

/** Number of keys before and after the key of its own number that a query sees; behind a prefix, that of its position has a higher one. */
export function spanOf({ time, keys }: AttentionLayout, { before, after = keys, prefix = 0 }: AttentionAttributes) {
  return {
    before: Math.min(before === undefined ? time : before - prefix, time),
    after: Math.min(after + prefix, keys),
  };
}

/** The size of an entry's launch for all texts. */
function sizeOf(entry: string, layout: AttentionLayout, attributes: AttentionAttributes): AttentionSize {
  const { batch, time, keys, head, relative } = layout;
  const { heads, kvHeads, cap, segments = false, dropout } = attributes;
  const { before } = spanOf(layout, attributes);
  return {
    entry,
    texts: batch,
    heads: isOfKeys(entry) ? kvHeads : heads,
    time,
    keys,
    head,
    // A window that is as long as the text hides nothing.
    windowed: before < time - 1,
    causal: attributes.after === 0,
    capped: cap !== undefined,
    segmented: segments,
    relative: entry === "temp_statistics" ? undefined : relative,
    grid: relative !== undefined && relative.columns < time,
    dropping: dropout > 0,
  };
}

const stripes = ({ q, k, v, time, keys }: AttentionLayout): Table[] => [
  ["q", q.slot, q.row, time],
  ["k", k.slot, k.row, keys],
  ["v", v.slot, v.row, keys],
];

const rowStatistics = (layout: AttentionLayout, heads: number, ...slots: string[]): Table[] =>
  slots.map((slot) => [slot, slot, layout.time, heads]);

const outputs = (layout: AttentionLayout, heads: number, ...slots: string[]): Table[] =>
  slots.map((slot) => [slot, slot, heads * layout.head, layout.time]);

const maskTable = (layout: AttentionLayout): Table => ["mask", "mask", layout.keys, 1];

const statisticsTable = (layout: AttentionLayout, heads: number): Table => [
  "statistics",
  "statistics",
  4 * layout.time,
  heads,
];

/** Launches that write y and lse. */
export function attentionForward(layout: AttentionLayout, context: LaunchContext<AttentionAttributes>): Launch[] {
  const { heads } = context.attributes;
  const results = [...outputs(layout, heads, "y"), ...rowStatistics(layout, heads, "lse")];
  return attentionLaunches("forward", [...stripes(layout), maskTable(layout), ...results], layout, context, true);
}

/**
 * Launches that write what the gradients need of each row i: lse[i], delta[i] = dy[i] . y[i] and the bits of the text's
 * seed. One tensor for all, since bindings are few.
 */
export function attentionStatistics(layout: AttentionLayout, context: LaunchContext<AttentionAttributes>): Launch[] {
  const { heads } = context.attributes;
  const statistics = statisticsTable(layout, heads);
  const tables = [...outputs(layout, heads, "dy", "y"), ...rowStatistics(layout, heads, "lse"), statistics];
  return attentionLaunches("temp_statistics", tables, layout, context, true);
}

/** Launches of one gradient entry, which writes `targets`. */
export function attentionGradient(
  entry: "grad_q" | "grad_k" | "grad_v" | "grad_k_v" | "grad_k_v_fused" | "grad_relative" | "grad_relative_rows",
  targets: readonly Table[],
  layout: AttentionLayout,
  context: LaunchContext<AttentionAttributes>,
): Launch[] {
  const { heads } = context.attributes;
  const isOnlyV = entry === "grad_v";
  const sources = [
    ...stripes(layout).filter(([variable]) => !(isOnlyV && variable === "v")),
    maskTable(layout),
    ...outputs(layout, heads, "dy"),
    ...(isOnlyV ? rowStatistics(layout, heads, "lse") : [statisticsTable(layout, heads)]),
  ];
  return attentionLaunches(entry, [...sources, ...targets], layout, context, isOnlyV);
}

/** Launches of all three gradients: two that one dispatch can replace. `entry` is that of keys and values. */
export function attentionGradients(
  entry: "grad_k_v" | "grad_k_v_fused",
  [dq, dkv]: readonly [Table, readonly Table[]],
  layout: AttentionLayout,
  context: LaunchContext<AttentionAttributes>,
): Launch[] {
  const qLaunches = attentionGradient("grad_q", [dq], layout, context);
  const kvLaunches = attentionGradient(entry, dkv, layout, context);
  const [q, kv] = [qLaunches[0]!, kvLaunches[0]!];
  // If the batch is cut, the two launches for one part of it are not neighbours, and cannot be joined.
  if (qLaunches.length + kvLaunches.length > 2) return [...qLaunches, ...kvLaunches];
  const size = sizeOf(entry, layout, context.attributes);
  // In one dispatch, WebGPU lets a buffer be bound only once for writing.
  const isShared = dkv.some(([, slot]) => slot === dq[1]);
  const variables = Object.fromEntries(Object.keys(q.bindings).map((variable) => [variable, variable]));
  const shared = isShared ? { [dq[0]]: dkv[0]![0] } : {};
  const absorbed = { kernel: q.kernel.name, entry: q.entry, variables: { ...variables, ...shared } };
  return [q, { ...kv, absorbs: joinedGradients(size, absorbed) }];
}

/** Floating-point operations of `products` matrix products with a matrix of all queries and the keys that they see, for each head. */
export function attentionFlops(layout: AttentionLayout, attributes: AttentionAttributes, products: number): number {
  const { batch, time, keys, head } = layout;
  const { before, after } = spanOf(layout, attributes);
  const pairs = batch * attributes.heads * time * Math.min(keys, before + 1 + after);
  return 2 * products * pairs * head;
}

/**
 * @throws ShapeError unless the mask is [b, keys], and there are as many queries as keys without a prefix where their positions are compared.
 * @throws ConfigError for a span, a prefix or a cap that is negative, and for a prefix beyond a window.
 */
export function checkSpan(
  op: string,
  { batch, time, keys }: AttentionLayout,
  { before, after, cap = 1, segments = false, prefix = 0 }: AttentionAttributes,
  mask: readonly number[],
): void {
  if (!sameShape(mask, [batch, keys])) {
    throw new ShapeError(
      `${op}: mask ${formatShape(mask)} does not fit ${keys} keys in each of ${batch} texts.`,
      `Pass a mask of shape [${batch}, ${keys}].`,
    );
  }
  const compares = before !== undefined || after !== undefined || segments;
  if ((compares || prefix > 0) && (time + prefix !== keys || (segments && prefix > 0))) {
    throw new ShapeError(
      `${op}: ${time} queries of ${keys} keys have no span and no segments.`,
      "Leave out before, after and segments, or pass as many queries as keys behind the prefix.",
    );
  }
  if (!([(before ?? prefix) - prefix, after ?? 0, prefix].every((count) => count >= 0) && cap > 0)) {
    throw new ConfigError(
      `${op}: before ${before}, after ${after}, prefix ${prefix}, cap ${cap}.`,
      "Pass numbers of keys from 0 on, before from the prefix on, and a cap above 0, or leave them out.",
    );
  }
}

/** @throws ShapeError unless there are two seed words for each text. */
export function checkSeeds(op: string, seed: readonly number[], batch: number): void {
  if (sameShape(seed, [batch, 2])) return;
  throw new ShapeError(
    `${op}: seed ${formatShape(seed)} does not have two words for each of ${batch} texts.`,
    `Pass a u32 tensor of shape [${batch}, 2].`,
  );
}
