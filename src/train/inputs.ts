import type { Batch } from "../data/batch";
import { IGNORED_LABEL } from "../data/sample";
import type { Model } from "../model/model";
import type { Inputs } from "../run/executor";

/** How many labels of a batch count in its loss. */
export function countedLabels(model: Model, batch: Batch): number {
  if (model.task === "regression") return batch.rows;
  return tokenLabels(model, batch).reduce((count, label) => count + (label === IGNORED_LABEL ? 0 : 1), 0);
}

/** Host data of every input that a trace may ask for. `labels` is the count over the whole, accumulated batch. */
export function batchInputs(model: Model, batch: Batch, labels: number, seed: readonly [number, number]): Inputs {
  const { size, length, rows } = batch;
  const isRegression = model.task === "regression";
  return {
    input_ids: batch.inputIds,
    attention_mask: batch.attentionMask,
    token_type_ids: batch.tokenTypeIds,
    positions: Int32Array.from({ length }, (_, i) => i),
    first_tokens: Int32Array.from({ length: size }, (_, row) => row * length),
    seed: Uint32Array.from(seed),
    normalizer: Float32Array.of(1 / Math.max(1, labels)),
    ...(isRegression
      ? {
          targets: Float32Array.from(batch.labels),
          target_mask: Int32Array.from({ length: size }, (_, i) => (i < rows ? 1 : 0)),
        }
      : { labels: tokenLabels(model, batch) }),
  };
}

/** Labels as the loss reads them: a language model's position predicts the next token, its last one nothing. */
export function tokenLabels(model: Model, batch: Batch): Int32Array {
  const labels = Int32Array.from(batch.labels);
  if (model.task !== "causal_lm") return labels;
  return labels.map((_, i) => ((i + 1) % batch.length === 0 ? IGNORED_LABEL : (labels[i + 1] as number)));
}
