import code from "../../../kernels/attention.wgsl";
import { ShapeError } from "../../base/errors";
import { formatShape, sameShape } from "../../base/shape";
import type { ReferenceTensor, LaunchContext } from "../../op/declaration";
import { bindRows, rowRanges } from "../../op/launch";
import type { Launch } from "../../op/launch";
import { attentionVariants, jointGradients, USUAL_GROUP } from "./attention-variants";
import { droppedElement } from "./dropout";
import { dropoutParams } from "./product";
import { at } from "./reference";

const kernel = { name: "attention", code };

export type AttentionAttributes = {
  readonly heads: number;
  /** Key-value heads; fewer than `heads` for grouped-query attention. */
  readonly kvHeads: number;
  /** Whether a position sees only itself and earlier ones. */
  readonly causal: boolean;
  /** Factor of the scores, usually 1 / sqrt(head size). */
  readonly scale: number;
  /** Probability of dropping an attention weight; 0 for none. */
  readonly dropout: number;
  /** Tells this node's dropout mask from every other node's. */
  readonly salt: number;
};

/** Where q, k or v lies: its slot, the length of its rows and its first column, in elements. */
export interface Stripe {
  readonly slot: string;
  readonly row: number;
  readonly offset: number;
}

/** Sizes and stripes of one attention node. */
export interface AttentionLayout {
  readonly batch: number;
  readonly time: number;
  readonly head: number;
  readonly q: Stripe;
  readonly k: Stripe;
  readonly v: Stripe;
}

/** WGSL variable -> slot, with the length of a row in elements and the rows that one batch row has. */
type Table = readonly [variable: string, slot: string, row: number, rowsPerBatch: number];

/** The launches of one entry, cut by batch rows where a table exceeds a binding. */
export function attentionLaunches(
  entry: string,
  tables: readonly Table[],
  layout: AttentionLayout,
  context: LaunchContext<AttentionAttributes>,
  seeded: boolean,
): Launch[] {
  const { heads, kvHeads, causal, scale, dropout, salt } = context.attributes;
  const { batch, time, head, q, k, v } = layout;
  const bytes = tables.map(([, , row, perBatch]) => row * perBatch * 4);
  const rowsOf = entry.startsWith("grad_k") || entry.startsWith("grad_v") ? kvHeads : heads;
  const size = { entry, heads: rowsOf, time, head, causal, dropping: dropout > 0 };
  return rowRanges(batch, bytes, context.limits).map((range) => ({
    kernel,
    entry,
    bindings: {
      ...Object.fromEntries(tables.map(([name, slot], i) => [name, bindRows(slot, range, bytes[i]!)])),
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
    constants: { HEAD: head, GROUP: USUAL_GROUP },
    workgroups: range.count * rowsOf * Math.ceil(time / USUAL_GROUP),
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

const statisticsTable = (layout: AttentionLayout, heads: number): Table => {
  return ["statistics", "statistics", 4 * layout.time, heads];
};

/** y and lse. */
export function attentionForward(layout: AttentionLayout, context: LaunchContext<AttentionAttributes>): Launch[] {
  const { heads } = context.attributes;
  const written = [...outputs(layout, heads, "y"), ...rowStatistics(layout, heads, "lse")];
  return attentionLaunches("forward", [...stripes(layout), maskTable(layout), ...written], layout, context, true);
}

/** lse[i], delta[i] = dy[i] . y[i] and the text's seed, as bits, in one tensor that the gradients share. */
export function attentionStatistics(layout: AttentionLayout, context: LaunchContext<AttentionAttributes>): Launch[] {
  const { heads } = context.attributes;
  const statistics = statisticsTable(layout, heads);
  const tables = [...outputs(layout, heads, "dy", "y"), ...rowStatistics(layout, heads, "lse"), statistics];
  return attentionLaunches("temp_statistics", tables, layout, context, true);
}

/** One gradient entry; `targets` are the WGSL variables written, with their slots. */
export function attentionGradient(
  entry: "grad_q" | "grad_k" | "grad_v" | "grad_k_v" | "grad_k_v_fused",
  targets: readonly Table[],
  layout: AttentionLayout,
  context: LaunchContext<AttentionAttributes>,
): Launch[] {
  const { heads } = context.attributes;
  const onlyV = entry === "grad_v";
  const read = [
    ...stripes(layout).filter(([name]) => !(onlyV && name === "v")),
    maskTable(layout),
    ...outputs(layout, heads, "dy"),
    ...(onlyV ? rowStatistics(layout, heads, "lse") : [statisticsTable(layout, heads)]),
  ];
  return attentionLaunches(entry, [...read, ...targets], layout, context, onlyV);
}

/** All three gradients, in two launches that may be run as one; `entry` is that of keys and values. */
export function attentionGradients(
  entry: "grad_k_v" | "grad_k_v_fused",
  [ofQ, ofKV]: readonly [Table, readonly Table[]],
  layout: AttentionLayout,
  context: LaunchContext<AttentionAttributes>,
): Launch[] {
  const first = attentionGradient("grad_q", [ofQ], layout, context);
  const second = attentionGradient(entry, ofKV, layout, context);
  const [q, kv] = [first[0]!, second[0]!];
  // Launches for parts of the batch do not follow each other.
  if (first.length + second.length > 2) return [...first, ...second];
  const { kvHeads, causal, dropout } = context.attributes;
  const { batch, time, head } = layout;
  const size = { entry, texts: batch, heads: kvHeads, time, head, causal, dropping: dropout > 0 };
  // WebGPU lets one dispatch bind a table for writing once.
  const isShared = ofKV.some(([, slot]) => slot === ofQ[1]);
  const joint = jointGradients(size, [...Object.keys(kv.bindings), ...(isShared ? [] : [ofQ[0]])]);
  return [{ ...q, ...(joint && { joint }) }, kv];
}

/** Scores, weights and weighted sums of values; recomputed where a gradient needs them. */
export function attentionFlops(layout: AttentionLayout, heads: number, products: number): number {
  return 2 * products * layout.batch * heads * layout.time * layout.time * layout.head;
}

/** @throws ShapeError for seeds that are not two words for each text. */
export function checkSeeds(op: string, seed: readonly number[], batch: number): void {
  if (sameShape(seed, [batch, 2])) return;
  throw new ShapeError(
    `${op}: seed ${formatShape(seed)} is not two words for each of ${batch} texts.`,
    `Pass a u32 tensor of shape [${batch}, 2].`,
  );
}

/** Attention with plain loops. `read(which, batch, time, head, column)` fetches an element of q, k or v. */
export function attentionReference(
  layout: AttentionLayout,
  attributes: AttentionAttributes,
  read: (which: "q" | "k" | "v", batch: number, time: number, head: number, column: number) => number,
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
