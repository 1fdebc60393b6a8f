import type { Adapter } from "../adapter/adapter";
import type { Batch } from "../data/batch";
import { IGNORED_LABEL } from "../data/sample";
import type { LoadedModel } from "../io/load-model";
import type { Executor } from "../run/executor";
import type { TensorStore } from "../run/store";
import { plan } from "../tape/plan";
import type { Plan } from "../tape/plan";
import { batchInputs, countedLabels, tokenLabels } from "./inputs";
import { trace } from "./trace";

export interface EvaluationParts {
  readonly loaded: LoadedModel;
  /** Left out: the model as it was loaded. */
  readonly adapter?: Adapter | undefined;
  readonly executor: Executor;
  readonly store: TensorStore;
  /** Plans that the executor holds and must hold again afterwards. */
  readonly held: readonly Plan[];
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

/** Runs batches forward in eval mode. Logits are read back for classes and values, not for language models. */
export async function evaluate(parts: EvaluationParts, batches: Iterable<Batch>): Promise<Evaluation> {
  const { loaded, executor, store, held } = parts;
  const { model } = loaded;
  const plans = new Map<string, Plan>();
  const predictions: number[] = [];
  const labels: number[] = [];
  let [total, count] = [0, 0];
  try {
    for (const batch of batches) {
      const key = `${batch.size} x ${batch.length}`;
      if (!plans.has(key)) {
        plans.set(key, evaluationPlan(parts, batch));
        await executor.hold([...held, ...plans.values()]);
      }
      const counted = countedLabels(model, batch);
      const inputs = batchInputs(model, batch, counted, [0, 0]);
      const outputs = await executor.run(plans.get(key) as Plan, store, inputs);
      total += (outputs.get("loss")?.[0] ?? NaN) * counted;
      count += counted;
      const logits = outputs.get("logits");
      if (logits) collect(logits, model.classes, batch, tokenLabels(model, batch), predictions, labels);
    }
  } finally {
    await executor.hold(held);
  }
  return { loss: total / Math.max(1, count), count, predictions, labels };
}

function evaluationPlan({ loaded, adapter }: EvaluationParts, { size, length }: Batch): Plan {
  const { model, fragileNorms, engine } = loaded;
  const { tape, loss, logits } = trace({ model, adapter, batch: { size, length }, isTraining: false, fragileNorms });
  const outputs = model.task === "causal_lm" ? { loss } : { loss, logits };
  return plan(tape, { outputs, limits: engine.device.limits });
}

function collect(
  logits: Float32Array,
  classes: number,
  batch: Batch,
  classLabels: Int32Array,
  predictions: number[],
  labels: number[],
): void {
  for (let row = 0; row < batch.rows; row++) {
    if (classes > 1 && classLabels[row] === IGNORED_LABEL) continue;
    const scores = logits.subarray(row * classes, (row + 1) * classes);
    predictions.push(classes === 1 ? (scores[0] as number) : scores.indexOf(Math.max(...scores)));
    labels.push(batch.labels[row] as number);
  }
}
