import type { Adapter } from "../adapter/adapter";
import type { Batch } from "../data/batch";
import { splitBatch } from "../data/split";
import { IGNORED_LABEL } from "../data/sample";
import type { LoadedModel } from "../io/load-model";
import type { Model } from "../model/model";
import type { Executor } from "../run/executor";
import type { TensorStore } from "../run/store";
import { plan } from "../tape/plan";
import type { Plan } from "../tape/plan";
import { batchInputs, countedLabels } from "./plans/inputs";
import { trace } from "./plans/trace";

export interface EvaluationParts {
  readonly loaded: LoadedModel;
  /** Left out: the model as it was loaded. */
  readonly adapter?: Adapter | undefined;
  readonly executor: Executor;
  readonly store: TensorStore;
  /** Rows that run at once; default whole batches. */
  readonly rows?: number | undefined;
}

/** A model's answers on some batches. */
export interface Evaluation {
  /** Mean loss over all labels that count. */
  readonly loss: number;
  /** Labels that count: examples, or tokens of a language model. */
  readonly count: number;
  /** The largest logit's class for each label, or the value for a regression; empty for a language model. */
  readonly predictions: readonly number[];
  readonly labels: readonly number[];
}

/** Called with each batch's logits, where these are read: [size, classes], or [size, length, 2] for answers. */
export type SeeLogits = (batch: Batch, logits: Float32Array) => void;

/**
 * Calls `body` with what evaluation needs, and once more, with other parts, where the device is lost before it ends.
 * `body` calls `onProgress` whenever a batch is done.
 */
export type WithParts = <T>(body: (parts: EvaluationParts, onProgress: () => void) => Promise<T>) => Promise<T>;

/** Runs batches forward in eval mode. Logits are read back for classes and values, not for language models. */
export async function evaluate(
  { loaded: { model }, adapter, rows }: EvaluationParts,
  withParts: WithParts,
  batches: Iterable<Batch>,
  see?: SeeLogits,
): Promise<Evaluation> {
  const virtualTokens = adapter?.virtualTokens ?? 0;
  const plans = new Map<string, Plan>();
  const predictions: number[] = [];
  const labels: number[] = [];
  let [total, count] = [0, 0];
  const collectOutputs = (batch: Batch, counted: number, outputs: ReadonlyMap<string, Float32Array>): void => {
    total += (outputs.get("loss")?.[0] ?? NaN) * counted;
    count += counted;
    const allLogits = outputs.get("logits");
    if (!allLogits) return;
    const isSpan = model.task === "question_answering";
    const logits = isSpan ? ownTokens(allLogits, batch, virtualTokens) : allLogits;
    see?.(batch, logits);
    collect(logits, model, batch, predictions, labels);
  };
  const remaining = partsOf(batches, rows);
  try {
    let current = remaining.next();
    await withParts((parts, onProgress) =>
      parts.executor.beside([], async (hold) => {
        for (; !current.done; current = remaining.next()) {
          const batch = current.value;
          const key = `${batch.size} x ${batch.length}`;
          const plan = plans.get(key) ?? evaluationPlan(parts, batch);
          plans.set(key, plan);
          await hold(plan);
          const counted = countedLabels(model, batch);
          const inputs = batchInputs(model, batch, { labels: counted, virtualTokens });
          collectOutputs(batch, counted, await parts.executor.run(plan, parts.store, inputs));
          onProgress();
        }
      }),
    );
  } finally {
    remaining.return();
  }
  return { loss: total / Math.max(1, count), count, predictions, labels };
}

function* partsOf(batches: Iterable<Batch>, rows = Infinity): Generator<Batch, void, undefined> {
  for (const whole of batches) for (const { batch } of splitBatch(whole, rows)) yield batch;
}

function evaluationPlan({ loaded, adapter }: EvaluationParts, { size, length }: Batch): Plan {
  const { model, fragileNorms, engine } = loaded;
  const { tape, loss, logits } = trace({ model, adapter, batch: { size, length }, isTraining: false, fragileNorms });
  const outputs = model.task === "causal_lm" ? { loss } : { loss, logits };
  return plan(tape, { outputs, limits: engine.device.limits });
}

/** Logits [size, length, 2] of the texts' own tokens, out of those with an adapter's virtual tokens before them. */
function ownTokens(logits: Float32Array, { size, length }: Batch, virtualTokens: number): Float32Array {
  if (virtualTokens === 0) return logits;
  const own = new Float32Array(size * length * 2);
  for (let row = 0; row < size; row++) {
    const end = (row + 1) * (length + virtualTokens) * 2;
    own.set(logits.subarray(end - length * 2, end), row * length * 2);
  }
  return own;
}

/** Appends each real row's prediction and label: the largest class, the value, or first and last token of an answer. */
function collect(logits: Float32Array, model: Model, batch: Batch, predictions: number[], labels: number[]): void {
  const isSpan = model.task === "question_answering";
  const [perRow, stride] = isSpan ? [2, 2] : [1, 1];
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
