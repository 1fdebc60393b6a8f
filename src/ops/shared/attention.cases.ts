import type { ReferenceTensor } from "../../op/declaration";
import { droppedElement } from "./dropout.cases";
import { at } from "./reference";
import type { AttentionLayout, AttentionAttributes } from "./attention";

/** A table of `relative_attention`, with the attributes that say how it is read. */
export interface ReferenceTable {
  readonly form: "numbers" | "rows";
  readonly columns: number;
  readonly table: ReferenceTensor;
}

/** Attention in plain loops, in float64. `read` returns an element of q, k or v. */
export function attentionReference(
  layout: AttentionLayout,
  attributes: AttentionAttributes,
  read: (operand: "q" | "k" | "v", batch: number, row: number, head: number, column: number) => number,
  mask: ReferenceTensor,
  seed: ReferenceTensor,
  relative?: ReferenceTable,
): { y: ReferenceTensor; lse: ReferenceTensor } {
  const { batch, time, keys, head } = layout;
  const { heads, kvHeads, scale, cap, segments, dropout, salt, prefix = 0 } = attributes;
  const { before = Infinity, after = Infinity } = attributes;
  const dropped = { probability: dropout, salt, seed, perText: heads * time * keys };
  /** A number of the table, or an element of its rows, by its index within the entry of two positions. */
  const ofTable = (i: number, j: number, index: number): number => {
    const { columns, table } = relative!;
    const place = (position: number): number => position + Math.floor(position / columns) * (columns - 1);
    const [entries = 0] = table.shape;
    return at(table, ((entries - 1) / 2 + place(i) - place(j)) * (table.data.length / entries) + index);
  };
  const isHidden = (b: number, i: number, j: number): boolean => {
    const key = at(mask, b * keys + j);
    return segments ? key !== at(mask, b * keys + i) : key === 0;
  };
  const y = new Float64Array(batch * time * heads * head);
  const lse = new Float64Array(batch * heads * time);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const kv = Math.floor((h * kvHeads) / heads);
      for (let i = 0; i < time; i++) {
        // The key of the query's own position.
        const own = i + prefix;
        const first = Math.max(0, own - before);
        const scores: number[] = [];
        for (let j = first; j < Math.min(keys, own + after + 1); j++) {
          let score = 0;
          for (let c = 0; c < head; c++) {
            const [query, key] = [read("q", b, i, h, c), read("k", b, j, kv, c)];
            score += scale * query * key;
            if (relative?.form !== "rows") continue;
            score += scale * query * ofTable(i, j, h * head + c);
            score += scale * key * ofTable(i, j, (heads + h) * head + c);
          }
          if (cap !== undefined) score = cap * Math.tanh(score / cap);
          if (relative?.form === "numbers") score += ofTable(i, j, h);
          scores.push(isHidden(b, i, j) ? -3e38 : score);
        }
        const largest = Math.max(...scores);
        const total = scores.reduce((sum, score) => sum + Math.exp(score - largest), 0);
        lse[(b * heads + h) * time + i] = largest + Math.log(total);
        scores.forEach((score, offset) => {
          const j = first + offset;
          const index = ((b * heads + h) * time + i) * keys + j;
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
