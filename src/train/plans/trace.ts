import { ConfigError, DataError, ShapeError } from "../../base/errors";
import { elements, formatShape, rows } from "../../base/shape";
import type { Adapter } from "../../adapter/adapter";
import { add } from "../../ops/add";
import { crossEntropy } from "../../ops/cross_entropy";
import { LOGIT_BYTES, linearCrossEntropy } from "../../ops/linear_cross_entropy";
import { meanSquaredError } from "../../ops/mean_squared_error";
import { mul } from "../../ops/mul";
import { reshape } from "../../ops/reshape";
import { swapAxes } from "../../ops/swap_axes";
import { Forward, tokensBefore } from "../../model/forward";
import type { AttentionSite, BlockSite, ForwardHooks } from "../../model/forward";
import { statesShape } from "../../model/model";
import type { BatchSize, LanguageModelOutput, Model, Projection } from "../../model/model";
import { IGNORED_LABEL } from "../../data/sample";
import { Recorder } from "../../tape/tape";
import type { Tape, Value } from "../../tape/tape";
import type { Loss, Objective } from "../options";

export interface TraceOptions {
  readonly model: Model;
  readonly adapter?: Adapter | undefined;
  readonly batch: BatchSize;
  readonly isTraining: boolean;
  /** Whether the loss is differentiated. Default false. */
  readonly differentiable?: boolean;
  readonly labelSmoothing?: number;
  /** Takes the place of the task's loss. */
  readonly loss?: Loss | Objective | undefined;
  /** Whether the adapter's penalty is added to the loss. Default true. */
  readonly isPenalised?: boolean;
  readonly fragileNorms?: ReadonlySet<string>;
  /** Layers whose adapter is left out. Default none. */
  readonly dropped?: DroppedLayers;
  /** The first layer of the trace, from 0. Above 0, the input `HIDDEN_STATES` replaces all below it. Default 0. */
  readonly from?: number;
}

/** A variant of a step: the layers, from 0, whose adapters do not learn in it, and act only where the policy says so. */
export type DroppedLayers = readonly number[];

/** A key that is equal for equal layers in the same order. */
export const variantKey = (dropped: DroppedLayers): string => dropped.join(", ");

/** Input of a trace that begins above the embeddings, of `statesShape`. */
export const HIDDEN_STATES = "hidden states";

/** A forward pass as a tape, with the values that are of interest in it. */
export interface Trace {
  readonly tape: Tape;
  /** [1] */
  readonly loss: Value;
  readonly logits: Value;
  /** Hidden states that leave each layer, from the first one that is traced, of `statesShape`; a decoder's [size, targetLength, hiddenSize]. */
  readonly layers: readonly Value[];
}

/**
 * Traces a forward pass with its loss. Records ops only; needs no memory and no device.
 * @throws DataError for rows that are longer than the model takes, ConfigError for rows of several texts where a row is one.
 */
export function trace(options: TraceOptions): Trace {
  checkLength(options);
  const recorder = new Recorder();
  const forward = forwardOf(recorder, options, options.adapter);
  const { model, from = 0 } = options;
  const layers: Value[] = [];
  const shape = { ...options.batch, length: forward.length };
  const first = from > 0 ? recorder.input(HIDDEN_STATES, statesShape(model, from, shape)) : model.embed(forward);
  const stack = forward.stack(first, from);
  for (let index = from; index < model.layers; index++) {
    stack.layer(index);
    layers.push(stack.hidden());
  }
  // A trace from above the last layer has none: the head reads its input.
  const x = layers.at(-1) ?? first;
  let logits = model.head(forward, x);
  const taskLossOf = (): Value => {
    const { loss: own, differentiable = false } = options;
    if (typeof own === "function") return ownLoss(own, forward, logits);
    const output = frozenOutput(forward, options, x);
    if (!own) return output ? lossWithoutLogits(forward, options, output) : lossOf(recorder, options, logits);
    const recorded = own.record(forward, { logits, output, differentiable });
    logits = recorded.logits;
    return recorded.loss;
  };
  const loss = recorder.labelled("loss", () => {
    const penalty = options.isPenalised === false ? undefined : options.adapter?.penalty?.(forward);
    const taskLoss = taskLossOf();
    if (!penalty) return taskLoss;
    const share = recorder.apply(mul, { a: penalty, b: recorder.input("penalty_share", [1]) }, {});
    return recorder.apply(add, { a: taskLoss, b: share }, {});
  });
  return { tape: recorder, loss, logits, layers };
}

function checkLength({ model, adapter, batch }: TraceOptions): void {
  const notPacked = batch.isPacked && whyNotPacked(model, adapter, batch.length);
  if (notPacked) {
    throw new ConfigError(`Rows of several texts: ${notPacked}.`, "Give each text a row of its own, without packing.");
  }
  const isSeq2seq = model.encoderDecoder !== undefined;
  if (model.task !== "masked_lm" && isSeq2seq !== (batch.targetLength !== undefined)) {
    throw new DataError(
      `A batch ${isSeq2seq ? "without texts to write does" : "with texts to write does"} not fit this ${model.family} model.`,
      `Make batches with ${isSeq2seq ? 'labels: "target"' : "the labels of the model's task"}.`,
    );
  }
  const before = tokensBefore(adapter);
  const length = Math.max(batch.length + before, batch.targetLength ?? 0);
  const fits = model.image ? length === model.maxLength : length <= model.maxLength;
  if (fits) return;
  const addition = before > 0 ? ` with ${before} virtual tokens` : "";
  throw new DataError(
    `Rows of ${Math.max(batch.length, batch.targetLength ?? 0)} tokens${addition} do not fit this ${model.family} model, which takes ${model.image ? "exactly" : "at most"} ${model.maxLength}.`,
    model.image
      ? "Give images of the size that config.json says."
      : "Truncate texts when they are encoded (maxLength).",
  );
}

/** Why rows of so many tokens cannot hold several texts; undefined where they can. */
export function whyNotPacked(
  { family, task, canPack, constantsChangeAbove: longest = Infinity }: Model,
  adapter: Adapter | undefined,
  length: number,
): string | undefined {
  if (!canPack || task !== "causal_lm") return `this ${family} model (${task}) takes a row as one text`;
  if (adapter && tokensBefore(adapter) > 0) {
    return `${adapter.kind} puts virtual tokens before rows, and not before each text`;
  }
  return length > longest ? `${family} takes rows of more than ${longest} tokens as one long text` : undefined;
}

/**
 * A forward pass to record into.
 * @param adapter undefined for the model without the adapter of the options: it then reads the tensors that the adapter trains
 * as they were loaded.
 */
export function forwardOf(recorder: Recorder, options: TraceOptions, adapter: Adapter | undefined): Forward {
  const { model, batch, isTraining, fragileNorms } = options;
  const trained = new Set(options.adapter?.baseTensors?.(model));
  const hooks = adapter && options.dropped?.length ? withoutLayers(adapter, new Set(options.dropped)) : adapter;
  // A pass without the adapter reads the tensors that it trains as they were loaded.
  const parameters = adapter ? { trained } : { originals: trained };
  return new Forward({ recorder, model, batch, isTraining, hooks, fragileNorms, ...parameters });
}

/** The hooks of an adapter that does not act in some layers. */
function withoutLayers(adapter: Adapter, layers: ReadonlySet<number>): ForwardHooks {
  const isOut = ({ layer }: Projection | BlockSite | AttentionSite): boolean =>
    typeof layer === "number" && layers.has(layer);
  return {
    ...adapter,
    bias: (forward, projection) => (isOut(projection) ? undefined : adapter.bias?.(forward, projection)),
    linear: (forward, site) => (isOut(site) ? undefined : adapter.linear?.(forward, site)),
    block: (forward, site) => (isOut(site) ? undefined : adapter.block?.(forward, site)),
    prefixed: (forward, site) => (isOut(site) ? undefined : adapter.prefixed?.(forward, site)),
  };
}

/** What a language model's logits are made of; undefined where its last projection is adapted or trained. */
function frozenOutput(
  forward: Forward,
  { model, adapter }: TraceOptions,
  hiddenStates: Value,
): LanguageModelOutput | undefined {
  const inputs = model.output?.(forward, hiddenStates);
  if (!inputs || inputs.w.origin.kind !== "parameter") return undefined;
  const { name } = inputs.w.origin;
  const module = name.replace(/\.weight$/, "");
  const trained = [
    ...(adapter?.tensors(model).map((tensor) => tensor.name) ?? []),
    ...(adapter?.baseTensors?.(model) ?? []),
  ];
  return trained.some((tensor) => tensor === name || tensor.startsWith(`${module}.`)) ? undefined : inputs;
}

/** The loss of a language model without its logits in memory. */
function lossWithoutLogits(
  { recorder }: Forward,
  { labelSmoothing = 0, differentiable = false }: TraceOptions,
  inputs: LanguageModelOutput,
): Value {
  const targets = {
    labels: recorder.input("labels", [rows(inputs.x.shape)], "i32"),
    normalizer: recorder.input("normalizer", [1]),
  };
  const { cap, ...logits } = inputs;
  const loss = { ignored: IGNORED_LABEL, smoothing: labelSmoothing, ...(cap !== undefined && { cap }) };
  const attributes = { ...loss, differentiable, logitBytes: LOGIT_BYTES };
  return recorder.apply(linearCrossEntropy, { ...logits, ...targets }, attributes);
}

/** Name of the input with the weights of labels; see `LossBatch`. */
export const LABEL_WEIGHTS = "label_weights";

/** A loss of one's own, checked to be one number of this tape: [1]. */
function ownLoss(loss: Loss, forward: Forward, logits: Value): Value {
  const { recorder, model, batch } = forward;
  const isRegression = model.task === "regression";
  const shape =
    model.task === "question_answering" ? [batch.size, 2] : isRegression ? [batch.size] : logits.shape.slice(0, -1);
  // A program without types may return anything.
  const value: unknown = loss(forward, logits, {
    ...batch,
    get labels() {
      return isRegression ? recorder.input("targets", shape) : recorder.input("labels", shape, "i32");
    },
    get weights() {
      return recorder.input(LABEL_WEIGHTS, shape);
    },
    get normalizer() {
      return recorder.input("normalizer", [1]);
    },
  });
  const recorded = recorder.values.find((each) => each === value);
  if (!recorded) {
    throw new ConfigError(
      `The loss ${loss.name} returns ${value === undefined ? "undefined" : "no value of its tape"}.`,
      "Return what ops make of its arguments.",
    );
  }
  if (recorded.origin.kind !== "node" && recorded.dtype === "f32") {
    throw new ConfigError(
      `The loss ${loss.name} returns the ${recorded.origin.kind} ${recorded.origin.name} as it is.`,
      "Compute it from the logits.",
    );
  }
  if (recorded.dtype !== "f32" || elements(recorded.shape) !== 1) {
    throw new ShapeError(
      `The loss ${loss.name} returns ${recorded.dtype} ${formatShape(recorded.shape)}, and not one number.`,
      "Return one f32 number, such as sum(mul(losses, batch.weights)).",
    );
  }
  return recorded.shape.length === 1 ? recorded : recorder.apply(reshape, { x: recorded }, { shape: [1] });
}

function lossOf(recorder: Recorder, { model, batch, labelSmoothing = 0 }: TraceOptions, logits: Value): Value {
  const normalizer = recorder.input("normalizer", [1]);
  if (model.task === "regression") {
    const targets = recorder.input("targets", [batch.size]);
    const mask = recorder.input("target_mask", [batch.size], "i32");
    return recorder.apply(meanSquaredError, { prediction: logits, targets, normalizer, mask }, {});
  }
  // An answer's start and end are two classifications over the tokens.
  const isSpan = model.task === "question_answering";
  const x = isSpan ? recorder.apply(swapAxes, { x: logits }, {}) : logits;
  const labels = recorder.input("labels", [rows(x.shape)], "i32");
  const attributes = { ignored: IGNORED_LABEL, smoothing: labelSmoothing };
  return recorder.apply(crossEntropy, { x, labels, normalizer }, attributes);
}
