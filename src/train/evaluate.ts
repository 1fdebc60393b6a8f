import type { Adapter } from "../adapter/adapter";
import type { Batch } from "../data/batch";
import { splitBatch } from "../data/split";
import { IGNORED_LABEL } from "../data/sample";
import type { LoadedModel } from "../io/load-model";
import { shapeKey } from "../model/model";
import type { Model } from "../model/model";
import type { Executor } from "../run/executor";
import type { TensorStore } from "../run/store";
import type { Plan } from "../tape/plan";
import type { Loss, Objective } from "./options";
import { EVALUATION_LOSS, evaluationPlan, LOGITS } from "./plans/evaluation-plan";
import { batchInputs, countedLabels } from "./plans/inputs";

export interface EvaluationParts {
  readonly loaded: LoadedModel;
  /** Undefined evaluates the model as it was loaded. */
  readonly adapter?: Adapter | undefined;
  readonly executor: Executor;
  readonly store: TensorStore;
  /** Rows that run at the same time. Default: complete batches. */
  readonly rows?: number | undefined;
  /** Default: the task's. */
  readonly loss?: Loss | Objective | undefined;
}

/** A model's loss and predictions on some batches. */
export interface Evaluation {
  /** Mean loss over all labels that are not ignored. */
  readonly loss: number;
  /** Number of labels that are not ignored: examples, or tokens that are classified or written; the sum of weights where these have some. */
  readonly count: number;
  /** For each label the class with the largest logit, or the value of a regression; empty for models that write texts. */
  readonly predictions: readonly number[];
  readonly labels: readonly number[];
}

/**
 * Receives each batch's logits: [size, classes], [size, length, classes] for token classification, or [size, length, 2] for
 * question answering, or [size, targetLength, classes] for masked language modelling. For models that write texts, it is called with what an objective shows, and otherwise not.
 */
export type SeeLogits = (batch: Batch, logits: Float32Array) => void;

/**
 * Calls `body` with what evaluation needs, and again with other parts where the device is lost before it ends. `body` calls
 * `onProgress` after each batch.
 */
export type WithParts = <T>(body: (parts: EvaluationParts, onProgress: () => void) => Promise<T>) => Promise<T>;

/** Runs batches forward without dropout. Logits are read back except for models that write texts, of which an objective shows others. */
export async function evaluate(
  { loaded: { model }, adapter, rows, loss }: EvaluationParts,
  withParts: WithParts,
  batches: Iterable<Batch>,
  seeLogits?: SeeLogits,
): Promise<Evaluation> {
  const virtualTokens = adapter?.virtualTokens ?? 0;
  const plans = new Map<string, Plan>();
  const predictions: number[] = [];
  const labels: number[] = [];
  let [total, count] = [0, 0];
  const collectOutputs = (batch: Batch, counted: number, outputs: ReadonlyMap<string, Float32Array>): void => {
    total += (outputs.get(EVALUATION_LOSS)?.[0] ?? NaN) * counted;
    count += counted;
    const allLogits = outputs.get(LOGITS);
    if (!allLogits) return;
    if (typeof loss === "object") return seeLogits?.(batch, allLogits);
    const isOfTokens = ["question_answering", "token_classification"].includes(model.task);
    const logits = isOfTokens ? withoutVirtualTokens(allLogits, batch, virtualTokens, model.classes) : allLogits;
    seeLogits?.(batch, logits);
    collect(logits, model, batch, predictions, labels);
  };
  const remaining = partsOf(batches, rows);
  try {
    let current = remaining.next();
    await withParts((parts, onProgress) =>
      parts.executor.beside([], async (hold) => {
        for (; !current.done; current = remaining.next()) {
          const batch = current.value;
          const key = shapeKey(batch);
          const { limits } = parts.loaded.engine.device;
          const plan = plans.get(key) ?? evaluationPlan(parts.loaded, parts.adapter, batch, limits, loss);
          plans.set(key, plan);
          await hold(plan);
          const counted = countedLabels(model, batch, { loss, adapter });
          const inputs = batchInputs(model, batch, { labels: counted, adapter, loss });
          collectOutputs(batch, counted, await parts.executor.run(plan, parts.store, inputs));
          onProgress();
        }
      }),
    );
  } finally {
    remaining.return();
  }
  return { loss: total / (count || 1), count, predictions, labels };
}

function* partsOf(batches: Iterable<Batch>, rows = Infinity): Generator<Batch, void, undefined> {
  for (const batch of batches) for (const part of splitBatch(batch, rows)) yield part.batch;
}

/** Logits [size, length, classes] of the texts' tokens, from those that begin with an adapter's virtual tokens. */
function withoutVirtualTokens(
  logits: Float32Array,
  { size, length }: Batch,
  virtualTokens: number,
  classes: number,
): Float32Array {
  if (virtualTokens === 0) return logits;
  const textLogits = new Float32Array(size * length * classes);
  for (let row = 0; row < size; row++) {
    const end = (row + 1) * (length + virtualTokens) * classes;
    textLogits.set(logits.subarray(end - length * classes, end), row * length * classes);
  }
  return textLogits;
}

/**
 * Appends prediction and label of each row that is not padding: a class, a value, an answer's first and last token, or the
 * classes of those tokens that have one.
 */
function collect(logits: Float32Array, model: Model, batch: Batch, predictions: number[], labels: number[]): void {
  const isSpan = model.task === "question_answering";
  const perRow = batch.labels.length / batch.size;
  const stride = isSpan ? 2 : 1;
  const width = logits.length / batch.size / perRow;
  for (let i = 0; i < batch.rows * perRow; i++) {
    const label = batch.labels[i]!;
    if (model.task !== "regression" && label === IGNORED_LABEL) continue;
    const first = isSpan ? Math.floor(i / 2) * 2 * width + (i % 2) : i * width;
    predictions.push(model.task === "regression" ? logits[first]! : largest(logits, first, stride, width));
    labels.push(label);
  }
}

/** Index of the largest of `count` elements that lie `stride` apart. */
function largest(values: Float32Array, first: number, stride: number, count: number): number {
  let best = 0;
  for (let i = 1; i < count; i++) {
    if (values[first + i * stride]! > values[first + best * stride]!) best = i;
  }
  return best;
}
