import { DataError } from "../../base/errors";
import type { Batch } from "../../data/batch";
import { IGNORED_LABEL } from "../../data/sample";
import type { EncoderDecoder, ImageSpec, Model } from "../../model/model";
import { behindPrefix } from "../../model/forward";
import type { ForwardHooks } from "../../model/forward";
import { randomBits } from "../../ops/shared/dropout";
import type { Inputs } from "../../run/executor";
import type { Loss, Objective } from "../options";
import { LABEL_WEIGHTS } from "./trace";

/**
 * Number of labels of a batch that count in its loss, or of what an objective counts. The last of virtual tokens predicts a text's first
 * token.
 */
export function countedLabels(
  model: Model,
  batch: Batch,
  { loss, adapter }: Pick<InputOptions, "loss" | "adapter"> = {},
): number {
  const virtualTokens = adapter?.virtualTokens;
  if (typeof loss === "object") return loss.count(batch, virtualTokens);
  if (batch.weights) {
    throw new DataError("A batch weighs its tokens.", "Give a loss that does: weightedTokens() of safetape/data.");
  }
  if (model.task === "regression") return batch.rows;
  return classLabels(model, batch, virtualTokens).reduce(
    (count, label) => count + (label === IGNORED_LABEL ? 0 : 1),
    0,
  );
}

/** What the dropout masks of a batch follow from, so that a row has the same masks in whichever part of the batch it runs. */
export interface MaskSeed {
  /** Seed of the run. */
  readonly run: number;
  /** A number that no other batch of the run has. */
  readonly batch: number;
  /** Number of the first row in its batch. Default 0. */
  readonly firstRow?: number;
}

export interface InputOptions {
  /** Number of labels that count in all batches of the step together. Default 1. */
  readonly labels?: number;
  /** Number of runs in the step: an adapter's term of the loss is divided equally among them. Default 1. */
  readonly runs?: number;
  /** What dropout masks follow from. Default zeros. */
  readonly seed?: MaskSeed;
  /** What an adapter puts before each text: virtual tokens, or keys and values without tokens. Default nothing. */
  readonly adapter?: Pick<ForwardHooks, "virtualTokens" | "prefixTokens"> | undefined;
  /** A loss of one's own, which may read the weights of labels, or an objective, which has inputs of its own. */
  readonly loss?: Loss | Objective | undefined;
}

/**
 * The values of every input that a trace may have, on the host.
 * @throws DataError for a token id or a label that the model does not have.
 */
export function batchInputs(model: Model, batch: Batch, options: InputOptions = {}): Inputs {
  checkBatch(model, batch);
  const { labels = 1, runs = 1, seed = { run: 0, batch: 0 }, adapter = {}, loss } = options;
  const { virtualTokens = 0, prefixTokens = 0 } = adapter;
  const { size } = batch;
  const length = batch.length + virtualTokens;
  const isRegression = model.task === "regression";
  const targets = isRegression ? regressionTargets(batch) : { labels: classLabels(model, batch, virtualTokens) };
  const normalizer = 1 / (labels || 1);
  return {
    ...(batch.pixels && model.image
      ? { patches: patchesOf(batch.pixels, size, model.image) }
      : textInputs(model, batch, virtualTokens)),
    ...(model.encoderDecoder && decoderInputs(model, model.encoderDecoder, batch)),
    ...placedInputs(model, batch, { virtualTokens, prefixTokens: 0 }, seed),
    // A model is compared with itself without the adapter, so that both may be read.
    ...(prefixTokens > 0 &&
      Object.fromEntries(
        Object.entries(placedInputs(model, batch, { virtualTokens, prefixTokens }, seed)).map(([name, input]) => [
          behindPrefix(name),
          input,
        ]),
      )),
    first_tokens: Int32Array.from({ length: size }, (_, row) => row * length),
    seed: maskSeeds(seed, size),
    batch_seed: maskSeeds({ run: seed.run, batch: seed.batch }, 1),
    normalizer: Float32Array.of(normalizer),
    penalty_share: Float32Array.of(1 / runs),
    ...targets,
    ...(typeof loss === "object"
      ? loss.inputs(batch, normalizer, virtualTokens)
      : loss && { [LABEL_WEIGHTS]: labelWeights(targets, normalizer) }),
  };
}

interface Targets {
  readonly labels?: Int32Array;
  readonly target_mask?: Int32Array;
}

const regressionTargets = ({ labels, size, rows }: Batch) => ({
  targets: Float32Array.from(labels),
  target_mask: Int32Array.from({ length: size }, (_, i) => (i < rows ? 1 : 0)),
});

/** What each label counts in the mean over a step. */
const labelWeights = ({ labels, target_mask: mask = new Int32Array() }: Targets, normalizer: number): Float32Array =>
  labels
    ? Float32Array.from(labels, (label) => (label === IGNORED_LABEL ? 0 : normalizer))
    : Float32Array.from(mask, (counts) => counts * normalizer);

/** The seeds of the masks of the rows, or of each of their parts, two words each [rows * parts, 2]. */
function maskSeeds({ run, batch, firstRow = 0 }: MaskSeed, rows: number, parts = 1): Uint32Array {
  const rowSeed = (row: number): number => randomBits(firstRow + row, 0, [run, batch]);
  const seedOf = (part: number): number =>
    parts === 1 ? rowSeed(part) : randomBits(part % parts, 0, [run, rowSeed(Math.floor(part / parts))]);
  return Uint32Array.from({ length: 2 * rows * parts }, (_, i) => (i % 2 === 0 ? run : seedOf((i - 1) / 2)));
}

function checkBatch(model: Model, { size, length, inputIds, labels, pixels }: Batch): void {
  const badId = pixels ? -1 : inputIds.findIndex((id) => id < 0 || id >= model.vocabularySize);
  if (badId >= 0) {
    throw new DataError(
      `Row ${Math.floor(badId / length) + 1} of a batch has the token id ${inputIds[badId]}; the model knows ids below ${model.vocabularySize}.`,
      "Use the tokenizer that belongs to the model.",
    );
  }
  if (model.task === "regression") return;
  // The labels of an answer are positions in its row.
  const classes = model.task === "question_answering" ? length : model.classes;
  const badLabel = labels.findIndex((label) => label !== IGNORED_LABEL && !(label >= 0 && label < classes));
  if (badLabel < 0) return;
  throw new DataError(
    `Row ${Math.floor((badLabel * size) / labels.length) + 1} of a batch has the label ${labels[badLabel]}; the model has ${classes} classes.`,
    "Labels count from 0; num_labels of the model must fit the data.",
  );
}

/** The inputs that depend on where the tokens of a text begin. */
function placedInputs(
  model: Model,
  batch: Batch,
  { virtualTokens, prefixTokens }: Required<NonNullable<InputOptions["adapter"]>>,
  seed: MaskSeed,
): Inputs {
  const { firstPosition = 0, image } = model;
  const length = batch.length + virtualTokens;
  const positions = batch.isPacked
    ? textPositions(batch, firstPosition)
    : Int32Array.from({ length }, (_, i) => firstPosition + prefixTokens + i);
  const shape = { ...batch, length: length + prefixTokens };
  return {
    ...model.constants?.(positions, shape, (parts) => maskSeeds(seed, batch.size, parts)),
    positions,
    text_positions: positions,
    ...(!image && { padded_positions: paddedPositions(model, batch, virtualTokens, prefixTokens) }),
    attention_mask: withPrefix(batch.attentionMask, batch, virtualTokens + prefixTokens, 1),
  };
}

function textInputs(model: Model, batch: Batch, virtualTokens: number): Inputs {
  return {
    input_ids: batch.inputIds,
    token_type_ids: withPrefix(batch.tokenTypeIds, batch, virtualTokens, 0),
    last_tokens: lastTokens(batch, virtualTokens),
    mean_weights: meanWeights(batch, virtualTokens),
    ...(batch.predicted && { predicted_tokens: predictedTokens(batch, batch.predicted, virtualTokens) }),
  };
}

/**
 * Labels as the loss reads them. In a language model each position predicts the next token; the last position predicts
 * nothing, and of the virtual tokens only the last one predicts: the first token of the text. In packed rows a text's last
 * token does not predict the first of the next. Positions of answers are shifted by the virtual tokens, which have no classes of their own.
 */
export function classLabels(model: Pick<Model, "task">, batch: Batch, virtualTokens = 0): Int32Array {
  if (model.task === "token_classification") {
    return withPrefix(Int32Array.from(batch.labels), batch, virtualTokens, IGNORED_LABEL);
  }
  const shift = model.task === "question_answering" ? virtualTokens : 0;
  if (model.task !== "causal_lm") return Int32Array.from(batch.labels, (l) => (l === IGNORED_LABEL ? l : l + shift));
  const length = batch.length + virtualTokens;
  return Int32Array.from({ length: batch.size * length }, (_, i) => {
    const [row, next] = [Math.floor(i / length), (i % length) + 1 - virtualTokens];
    if (next < 1 - Math.min(1, virtualTokens) || next >= batch.length) return IGNORED_LABEL;
    const at = row * batch.length + next;
    return batch.isPacked && beginsText(batch, at) ? IGNORED_LABEL : batch.labels[at]!;
  });
}

/** Whether a token of packed rows is the first of its text. */
const beginsText = ({ attentionMask, length }: Batch, at: number): boolean =>
  at % length === 0 || attentionMask[at] !== attentionMask[at - 1];

/** Positions of the tokens of packed rows [size * length]: each text begins with `first`. */
function textPositions(batch: Batch, first: number): Int32Array {
  let position = first;
  return batch.attentionMask.map((_, at) => (position = beginsText(batch, at) ? first : position + 1));
}

/** Rows [size, virtualTokens + length]: those of the batch, each after as many times `value` as there are virtual tokens. */
function withPrefix(data: Int32Array, { size, length }: Batch, virtualTokens: number, value: number): Int32Array {
  if (virtualTokens === 0) return data;
  const totalLength = length + virtualTokens;
  const result = new Int32Array(size * totalLength).fill(value);
  for (let row = 0; row < size; row++) {
    result.set(data.subarray(row * length, (row + 1) * length), row * totalLength + virtualTokens);
  }
  return result;
}

/** Inputs of a decoder [size, targetLength]: labels shifted right, after the start id. Padding lies behind what causal attention reads. */
function decoderInputs(
  { padId, firstPosition = 0 }: Model,
  { startId }: EncoderDecoder,
  { labels, size, targetLength = 0 }: Batch,
): Inputs {
  const shifted = (i: number): number => {
    if (i % targetLength === 0) return startId;
    const before = labels[i - 1]!;
    return before === IGNORED_LABEL ? padId : before;
  };
  return {
    decoder_input_ids: Int32Array.from({ length: size * targetLength }, (_, i) => shifted(i)),
    decoder_positions: Int32Array.from({ length: targetLength }, (_, i) => firstPosition + i),
    decoder_mask: new Int32Array(size * targetLength).fill(1),
  };
}

/**
 * RoBERTa's positions: the padding id for padding, and numbers from the id after it for tokens. With virtual tokens, every
 * position has a number, as in Hugging Face where embeddings are given instead of ids.
 */
function paddedPositions(
  { padId }: Model,
  { size, length, inputIds }: Batch,
  virtualTokens: number,
  prefixTokens: number,
): Int32Array {
  const totalLength = length + virtualTokens;
  const positions = new Int32Array(size * totalLength);
  for (let row = 0; row < size; row++) {
    let last = padId + prefixTokens;
    for (let i = 0; i < totalLength; i++) {
      const isPadding = virtualTokens === 0 && inputIds[row * length + i] === padId;
      positions[row * totalLength + i] = isPadding ? padId : ++last;
    }
  }
  return positions;
}

/** Index, among all positions of the batch, of the last token of each text [size]. */
function lastTokens({ size, length, attentionMask }: Batch, virtualTokens: number): Int32Array {
  return Int32Array.from({ length: size }, (_, row) => {
    const last = attentionMask.subarray(row * length, (row + 1) * length).lastIndexOf(1);
    return row * (length + virtualTokens) + virtualTokens + Math.max(0, last);
  });
}

/** Index of each predicted token among all positions of the batch [size, targetLength]. */
const predictedTokens = ({ size, length }: Batch, predicted: Int32Array, virtualTokens: number): Int32Array =>
  predicted.map((at, i) => Math.floor((i * size) / predicted.length) * (length + virtualTokens) + virtualTokens + at);

/** One over the number of a text's tokens for each of them, 0 for padding [size, length]. */
function meanWeights(batch: Batch, virtualTokens: number): Float32Array {
  const mask = withPrefix(batch.attentionMask, batch, virtualTokens, 1);
  const length = batch.length + virtualTokens;
  const weights = new Float32Array(mask.length);
  for (let start = 0; start < mask.length; start += length) {
    const row = mask.subarray(start, start + length).map((token) => (token === 0 ? 0 : 1));
    const tokens = row.reduce((sum, counts) => sum + counts, 0);
    row.forEach((counts, i) => (weights[start + i] = counts / Math.max(1, tokens)));
  }
  return weights;
}

/** Images [size, channels, rows, columns] as patches [size, patches, channels * rows * columns of a patch]. */
function patchesOf(pixels: Float32Array, images: number, { size, patch, channels }: ImageSpec): Float32Array {
  const across = size / patch;
  const result = new Float32Array(pixels.length);
  let to = 0;
  for (let image = 0; image < images; image++) {
    for (let at = 0; at < across * across; at++) {
      const [top, left] = [Math.floor(at / across) * patch, (at % across) * patch];
      for (let channel = 0; channel < channels; channel++) {
        for (let row = 0; row < patch; row++) {
          const from = ((image * channels + channel) * size + top + row) * size + left;
          result.set(pixels.subarray(from, from + patch), to);
          to += patch;
        }
      }
    }
  }
  return result;
}
