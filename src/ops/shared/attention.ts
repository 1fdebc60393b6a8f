import kernel from "../../../kernels/attention.wgsl";
import { ShapeError } from "../../base/errors";
import { formatShape, sameShape } from "../../base/shape";
import type { ReferenceTensor, LaunchContext } from "../../op/declaration";
import { bindRows, rowRanges } from "../../op/launch";
import type { Launch } from "../../op/launch";
import { attentionVariants, DEFAULT_GROUP, joinedGradients } from "./attention-variants";
import { droppedElement } from "./dropout";
import { dropoutParams } from "./product";
import { at } from "./reference";

export type AttentionAttributes = {
  readonly heads: number;
  /** Key-value heads; fewer than `heads` for grouped-query attention. */
  readonly kvHeads: number;
  /** Whether a token attends only to itself and earlier ones. */
  readonly causal: boolean;
  /** Factor of the scores, usually 1 / sqrt(head size). */
  readonly scale: number;
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
  /** Tokens in a text. */
  readonly time: number;
  /** Elements in a head. */
  readonly head: number;
  readonly q: Stripe;
  readonly k: Stripe;
  readonly v: Stripe;
}

/** A WGSL variable and its slot, with the length of a row in elements and the number of rows for each text. */
type Table = readonly [variable: string, slot: string, row: number, rowsPerText: number];

/** The launches of one entry; several, each for some texts, if a table exceeds a binding. */
export function attentionLaunches(
  entry: string,
  tables: readonly Table[],
  layout: AttentionLayout,
  context: LaunchContext<AttentionAttributes>,
  seeded: boolean,
): Launch[] {
  const { heads, kvHeads, causal, scale, dropout, salt } = context.attributes;
  const { batch, time, head, q, k, v } = layout;
  const bytesPerText = tables.map(([, , row, rowsPerText]) => row * rowsPerText * 4);
  const outputHeads = entry.startsWith("grad_k") || entry.startsWith("grad_v") ? kvHeads : heads;
  const size = { entry, heads: outputHeads, time, head, causal, dropping: dropout > 0 };
  return rowRanges(batch, bytesPerText, context.limits).map((range) => ({
    kernel,
    entry,
    bindings: {
      ...Object.fromEntries(tables.map(([variable, slot], i) => [variable, bindRows(slot, range, bytesPerText[i]!)])),
      ...(seeded ? { seed: "seed" } : {}),
    },
    params: {
      batch: range.count,
      batch0: range.start,
      time,
      heads,
      kv_heads: kvHeads,
      q_row: q.row,
      q_offset: q.offset,
      k_row: k.row,
      k_offset: k.offset,
      v_row: v.row,
      v_offset: v.offset,
      causal: causal ? 1 : 0,
      scale,
      ...dropoutParams(dropout, salt),
      dropping: dropout > 0 ? 1 : 0,
    },
    constants: { HEAD: head, GROUP: DEFAULT_GROUP },
    workgroups: range.count * outputHeads * Math.ceil(time / DEFAULT_GROUP),
    ...attentionVariants({ ...size, texts: range.count }, kernel),
  }));
}

const stripes = ({ q, k, v, time }: AttentionLayout): Table[] => [
  ["q", q.slot, q.row, time],
  ["k", k.slot, k.row, time],
  ["v", v.slot, v.row, time],
];

const rowStatistics = (layout: AttentionLayout, heads: number, ...slots: string[]): Table[] =>
  slots.map((slot) => [slot, slot, layout.time, heads]);

const outputs = (layout: AttentionLayout, heads: number, ...slots: string[]): Table[] =>
  slots.map((slot) => [slot, slot, heads * layout.head, layout.time]);

const maskTable = (layout: AttentionLayout): Table => ["mask", "mask", layout.time, 1];

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
  entry: "grad_q" | "grad_k" | "grad_v" | "grad_k_v" | "grad_k_v_fused",
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
  const { kvHeads, causal, dropout } = context.attributes;
  const { batch, time, head } = layout;
  const size = { entry, texts: batch, heads: kvHeads, time, head, causal, dropping: dropout > 0 };
  // In one dispatch, WebGPU lets a buffer be bound only once for writing.
  const isShared = dkv.some(([, slot]) => slot === dq[1]);
  const variables = Object.fromEntries(Object.keys(q.bindings).map((variable) => [variable, variable]));
  const shared = isShared ? { [dq[0]]: dkv[0]![0] } : {};
  const absorbed = { kernel: q.kernel.name, entry: q.entry, variables: { ...variables, ...shared } };
  return [q, { ...kv, absorbs: joinedGradients(size, absorbed) }];
}

/** Floating-point operations of `products` matrix products with a time x time matrix for each head. */
export function attentionFlops(layout: AttentionLayout, heads: number, products: number): number {
  return 2 * products * layout.batch * heads * layout.time * layout.time * layout.head;
}

/** @throws ShapeError unless there are two seed words for each text. */
export function checkSeeds(op: string, seed: readonly number[], batch: number): void {
  if (sameShape(seed, [batch, 2])) return;
  throw new ShapeError(
    `${op}: seed ${formatShape(seed)} does not have two words for each of ${batch} texts.`,
    `Pass a u32 tensor of shape [${batch}, 2].`,
  );
}

/** Attention in plain loops, in float64. `read` returns an element of q, k or v. */
export function attentionReference(
  layout: AttentionLayout,
  attributes: AttentionAttributes,
  read: (operand: "q" | "k" | "v", batch: number, time: number, head: number, column: number) => number,
  mask: ReferenceTensor,
  seed: ReferenceTensor,
): { y: ReferenceTensor; lse: ReferenceTensor } {
  const { batch, time, head } = layout;
  const { heads, kvHeads, causal, scale, dropout, salt } = attributes;
  const dropped = { probability: dropout, salt, seed, perText: heads * time * time };
  const y = new Float64Array(batch * time * heads * head);
  const lse = new Float64Array(batch * heads * time);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const kv = Math.floor((h * kvHeads) / heads);
      for (let i = 0; i < time; i++) {
        const scores: number[] = [];
        for (let j = 0; j < (causal ? i + 1 : time); j++) {
          let score = 0;
          for (let c = 0; c < head; c++) score += read("q", b, i, h, c) * read("k", b, j, kv, c);
          scores.push(at(mask, b * time + j) === 0 ? -3e38 : score * scale);
        }
        const largest = Math.max(...scores);
        const total = scores.reduce((sum, score) => sum + Math.exp(score - largest), 0);
        lse[(b * heads + h) * time + i] = largest + Math.log(total);
        scores.forEach((score, j) => {
          const index = ((b * heads + h) * time + i) * time + j;
          const weight = droppedElement(Math.exp(score - largest) / total, index, dropped);
          for (let c = 0; c < head; c++) {
            const out = ((b * time + i) * heads + h) * head + c;
            y[out] = y[out]! + weight * read("v", b, j, kv, c);
          }
        });
      }
    }
  }
  return { y: { shape: [batch, time, heads * head], data: y }, lse: { shape: [batch, heads, time], data: lse } };
}
