import { ConfigError, DataError, NotFiniteError } from "../base/errors";
import type { Batch } from "../data/batch";
import { Batches } from "../data/batches";
import { IGNORED_LABEL } from "../data/sample";
import type { Tokenizer } from "../data/tokenizer";
import type { AdapterWeights } from "../generate/weights";
import { InferenceStore } from "../generate/weights";
import type { DirectoryLike } from "../io/directory-like";
import type { LoadedModel } from "../io/load-model";
import { labelNamesOf } from "../model/config";
import { shapeKey, shapeOf } from "../model/model";
import type { BatchSize } from "../model/model";
import { Executor } from "../run/executor";
import { plan } from "../tape/plan";
import type { Plan } from "../tape/plan";
import { loadAdapter } from "./files";
import { LOGITS } from "./plans/evaluation-plan";
import { batchInputs } from "./plans/inputs";
import { trace } from "./plans/trace";

/** A text, or a pair of texts. */
export type TextToClassify = string | readonly [text: string, pair: string];

export interface ClassifyOptions {
  /** A saved adapter: its directory, or what `loadAdapter` returns. Default: the model as it was loaded. */
  readonly adapter?: AdapterWeights | DirectoryLike | undefined;
  /** The model's tokenizer, which texts need. */
  readonly tokenizer?: Tokenizer | undefined;
  /** Texts of a batch. Default 16. */
  readonly batchSize?: number;
  /** Longest text in tokens; longer ones are cut. Default the model's. */
  readonly maxLength?: number;
  /** Called after each batch with the number of rows that are done. */
  readonly onProgress?: (done: number) => void;
}

/** The class of a text or an image. */
export interface Classified {
  /** The likeliest class, counted from 0. */
  readonly label: number;
  /** Its name in config.json (`id2label`), or else "LABEL_" and its number, as transformers calls it. */
  readonly name: string;
  readonly probability: number;
  /** Of all classes, by the softmax of the logits. They sum to 1. */
  readonly probabilities: readonly number[];
}

/**
 * Classifies texts, or the rows of batches (texts or images, as `Batches` and `ImageBatches` make them; labels are ignored), in their order. It
 * holds the weights, the adapter and one forward pass: no gradients, no optimizer.
 * @throws ConfigError for a model without a head that classifies rows, and for texts without a tokenizer; DataError for texts without tokens and
 * ids that the model does not have; what `loadAdapter` throws; NotFiniteError for logits that are not finite; OutOfMemoryError.
 */
export async function classify(
  loaded: LoadedModel,
  inputs: readonly TextToClassify[] | Iterable<Batch>,
  { adapter: given, onProgress, ...options }: ClassifyOptions = {},
): Promise<Classified[]> {
  const { model, engine } = loaded;
  if (model.task !== "sequence_classification" && model.task !== "image_classification") {
    throw new ConfigError(
      `This ${model.family} model's head is for ${model.task}, which gives no class of a row.`,
      'Load it with { task: "sequence_classification" }, or use generate or Trainer.evaluate.',
    );
  }
  const batches = batchesOf(loaded, inputs, options);
  const weights = given === undefined || isLoaded(given) ? given : await loadAdapter(given, loaded);
  const names = labelNamesOf(model.config);
  const results: Classified[] = [];
  using store = await InferenceStore.create(loaded, weights);
  using executor = new Executor(engine.device);
  const plans = new Map<string, Plan>();
  for (const batch of batches) {
    const key = shapeKey(batch);
    const planned = plans.get(key) ?? classificationPlan(loaded, weights?.adapter, batch);
    plans.set(key, planned);
    await executor.hold([planned]);
    const unlabelled = { ...batch, labels: new Int32Array(batch.labels.length).fill(IGNORED_LABEL) };
    const inputs = batchInputs(model, unlabelled, { adapter: weights?.adapter });
    const outputs = await executor.run(planned, store, inputs);
    const logits = outputs.get(LOGITS)!;
    for (let row = 0; row < batch.rows; row++) {
      const rowLogits = logits.subarray(row * model.classes, (row + 1) * model.classes);
      results.push(classified(rowLogits, names, results.length));
    }
    onProgress?.(results.length);
  }
  return results;
}

/** The plan of a forward pass up to the logits. */
export function classificationPlan(
  { model, fragileNorms, engine }: Pick<LoadedModel, "model" | "fragileNorms" | "engine">,
  adapter: AdapterWeights["adapter"] | undefined,
  batch: BatchSize,
): Plan {
  const { tape, logits } = trace({ model, adapter, batch: shapeOf(batch), isTraining: false, fragileNorms });
  return plan(tape, { outputs: { [LOGITS]: logits }, limits: engine.device.limits });
}

function classified(logits: Float32Array, names: readonly string[] | undefined, row: number): Classified {
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const wrong = logits.find((logit) => !Number.isFinite(logit));
  if (wrong !== undefined) {
    const details = { what: "logit", value: wrong };
    throw new NotFiniteError(
      `A logit of row ${row + 1} is ${wrong}.`,
      "Check the weights of model and adapter.",
      row,
      details,
    );
  }
  const exponentials = Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = exponentials.reduce((a, b) => a + b, 0);
  const label = logits.indexOf(largest);
  const probabilities = exponentials.map((value) => value / sum);
  return { label, name: names?.[label] ?? `LABEL_${label}`, probability: probabilities[label]!, probabilities };
}

function batchesOf(
  { model }: LoadedModel,
  inputs: readonly TextToClassify[] | Iterable<Batch>,
  { tokenizer, batchSize: size = 16, maxLength = model.maxLength }: Omit<ClassifyOptions, "adapter" | "onProgress">,
): Iterable<Batch> {
  if (!areTexts(inputs)) return inputs;
  if (inputs.length === 0) return [];
  if (!tokenizer || model.image) {
    throw new ConfigError(
      model.image ? `This ${model.family} model reads images, not texts.` : "classify has texts, and no tokenizer.",
      model.image
        ? "Give the batches of ImageBatches."
        : "Give the model's: { tokenizer: await loadTokenizer(directory) }.",
    );
  }
  const samples = inputs.map((input, i) => {
    const [text, pair] = typeof input === "string" ? [input] : input;
    const { ids, typeIds } = tokenizer.encode(text, pair, Number.isFinite(maxLength) ? { maxLength } : {});
    if (ids.length === 0) throw new DataError(`text ${i + 1} has no tokens`, "leave it out");
    return { ids, typeIds, label: IGNORED_LABEL };
  });
  return new Batches(samples, {
    size: Math.min(size, samples.length),
    shuffle: false,
    padId: model.padId,
  }).restOfEpoch();
}

const areTexts = (inputs: readonly TextToClassify[] | Iterable<Batch>): inputs is readonly TextToClassify[] =>
  Array.isArray(inputs) && inputs.every((input) => typeof input === "string" || Array.isArray(input));

const isLoaded = (adapter: AdapterWeights | DirectoryLike): adapter is AdapterWeights =>
  typeof adapter === "object" && "tensors" in adapter;
