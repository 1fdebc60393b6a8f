import { ConfigError } from "../base/errors";
import { embedding } from "../ops/embedding";
import { gelu } from "../ops/gelu";
import { linear } from "../ops/linear";
import { poolTokens } from "../ops/pool_tokens";
import { relu } from "../ops/relu";
import { scale } from "../ops/scale";
import { tanh } from "../ops/tanh";
import type { Recorder, Value } from "../tape/tape";
import { labelCount } from "./config";
import type { Forward } from "./forward";
import type { Model, Projection, Task } from "./model";

/** A model's head: its projections, and how hidden states become logits. */
export interface Head extends Pick<Model, "task" | "classes" | "heads"> {
  readonly projections: readonly Projection[];
  apply(forward: Forward, x: Value): Value;
  readonly output?: Model["output"];
  readonly tiedOutput?: Model["tiedOutput"];
}

/** Records the last norm of a pre-norm model, on all tokens or only on those that the head reads. */
export type FinalNorm = (forward: Forward, x: Value) => Value;

const identity: FinalNorm = (_, x) => x;

/** Tasks for which decoders have a head. */
export const DECODER_TASKS: readonly Task[] = ["causal_lm", "sequence_classification", "question_answering"];

/** Tasks by the endings of Hugging Face's names of architectures. */
const SUFFIXES: readonly (readonly [RegExp, Task])[] = [
  [/ForSequenceClassification$/, "sequence_classification"],
  [/ForTokenClassification$/, "token_classification"],
  [/ForQuestionAnswering$/, "question_answering"],
  [/ForImageClassification$/, "image_classification"],
  [/(?:ForConditionalGeneration|WithLMHeadModel)$/, "seq2seq"],
  [/(?:ForCausalLM|LMHeadModel)$/, "causal_lm"],
];

/**
 * The task of a configuration, by the first of its `architectures`. `fallback` is the task of a bare or a pre-training
 * model. Sequence classification with one label is regression.
 * @throws ConfigError if the task is not one of `supported`, or `problem_type` not one that its labels can have.
 */
export function taskOf(
  config: Readonly<Record<string, unknown>>,
  family: string,
  supported: readonly Task[],
  fallback: Task,
): Task {
  const architectures: unknown = config["architectures"];
  const architecture: unknown = Array.isArray(architectures) ? architectures[0] : undefined;
  const match = SUFFIXES.find(([suffix]) => typeof architecture === "string" && suffix.test(architecture));
  const task = match?.[1] ?? fallback;
  if (!supported.includes(task)) {
    throw new ConfigError(
      `config.json: the architecture ${String(architecture)} is not supported for ${family}.`,
      `Supported tasks: ${supported.join(", ")}.`,
    );
  }
  return task === "sequence_classification" || task === "image_classification" ? labelledTask(config, task) : task;
}

/** The task of a head with labels. transformers takes `problem_type` from the number of labels where there is none. */
function labelledTask(config: Readonly<Record<string, unknown>>, task: Task): Task {
  const labels = labelCount(config);
  const problem = config["problem_type"] ?? (labels === 1 ? "regression" : "single_label_classification");
  if (problem === "single_label_classification" && labels > 1) return task;
  if (problem === "regression" && labels === 1 && task === "sequence_classification") return "regression";
  throw new ConfigError(
    `config.json: problem_type ${JSON.stringify(problem)} with ${labels} label${labels === 1 ? "" : "s"} is not supported for ${task}.`,
    `Supported: "single_label_classification" with several labels${task === "image_classification" ? "." : ', "regression" with one.'}`,
  );
}

/** A projection of a head, outside the layers. */
function projection(name: string, from: number, to: number, bias = true): Projection {
  return { name, in: from, out: to, layout: "out_in", bias, layer: undefined, role: undefined };
}

/** Picks one token of each row: x [b, t, d] to [b, d]. `tokens` are rows of x as [b * t, d]. */
function pick(forward: Forward, name: string, x: Value, tokens: Value): Value {
  return forward.recorder.labelled(name, () => forward.recorder.apply(embedding, { table: x, ids: tokens }, {}));
}

/** Activations of heads. */
const ACTIVATIONS = {
  tanh: (recorder: Recorder, x: Value) => recorder.apply(tanh, { x }, {}),
  relu: (recorder: Recorder, x: Value) => recorder.apply(relu, { x }, {}),
  gelu: (recorder: Recorder, x: Value) => recorder.apply(gelu, { x }, { approximation: "none" }),
} as const;

/** A classifier of a text's first token: a projection, an activation, dropout, and a projection to the classes. */
export interface FirstTokenClassifier {
  readonly task: Task;
  readonly hidden: number;
  /** The first projection. BERT's, the pooler, is a part of the checkpoint; others belong to the head. */
  readonly dense: string;
  readonly activation: keyof typeof ACTIVATIONS;
  /** The second projection. Default `classifier`. */
  readonly out?: string;
  readonly dropout: number;
  /** Dropout before the first projection. Default 0. */
  readonly inputDropout?: number;
  /** Modules of the head. Default `classifier`. */
  readonly heads?: readonly string[];
}

/** The head of `FirstTokenClassifier`. */
export function firstTokenClassifier(
  config: Readonly<Record<string, unknown>>,
  { task, hidden, dense, activation, dropout, ...options }: FirstTokenClassifier,
): Head {
  const { out = "classifier", heads = ["classifier"], inputDropout = 0 } = options;
  const classes = labelCount(config);
  return {
    task,
    classes,
    heads,
    projections: [projection(dense, hidden, hidden), projection(out, hidden, classes)],
    apply(forward, x) {
      const { recorder } = forward;
      const first = pick(forward, dense, x, forward.firstTokens);
      const inner = forward.linear(dense, forward.dropout(first, inputDropout));
      const active = recorder.labelled(dense, () => ACTIVATIONS[activation](recorder, inner));
      return forward.linear(out, forward.dropout(active, dropout));
    },
  };
}

/** RoBERTa's head, which belongs to it completely: dropout, a projection, tanh, dropout, a projection. */
export const denseClassifier = (
  config: Readonly<Record<string, unknown>>,
  head: Pick<FirstTokenClassifier, "task" | "hidden" | "dropout"> & Partial<Pick<FirstTokenClassifier, "activation">>,
): Head =>
  firstTokenClassifier(config, {
    activation: "tanh",
    ...head,
    dense: "classifier.dense",
    out: "classifier.out_proj",
    inputDropout: head.dropout,
  });

/** Head for question answering: a projection of every token to its scores as the answer's start and end [b, t, 2]. */
export function answerSpan(hidden: number, norm = identity): Head {
  return {
    task: "question_answering",
    classes: 2,
    heads: ["qa_outputs"],
    projections: [projection("qa_outputs", hidden, 2)],
    apply: (forward, x) => forward.linear("qa_outputs", norm(forward, x)),
  };
}

/** Head for token classification: dropout, and a projection of every token to the classes [b, t, classes]. */
export function tokenClassifier(
  config: Readonly<Record<string, unknown>>,
  { hidden, dropout }: { readonly hidden: number; readonly dropout: number },
): Head {
  const classes = labelCount(config);
  return {
    task: "token_classification",
    classes,
    heads: ["classifier"],
    projections: [projection("classifier", hidden, classes)],
    apply: (forward, x) => forward.linear("classifier", forward.dropout(x, dropout)),
  };
}

/**
 * GPT-2's and LLaMA's classification head: a projection without bias of each text's last token that is not padding. The
 * norm treats tokens separately, so it is applied to this token only.
 */
export function lastTokenScore(
  config: Readonly<Record<string, unknown>>,
  { task, hidden, norm }: { task: Task; hidden: number; norm: FinalNorm },
): Head {
  const classes = labelCount(config);
  return {
    task,
    classes,
    heads: ["score"],
    projections: [projection("score", hidden, classes, false)],
    apply: (forward, x) => forward.linear("score", norm(forward, pick(forward, "score", x, forward.lastTokens))),
  };
}

export interface LanguageModelHead {
  readonly hidden: number;
  /** Default none. */
  readonly norm?: FinalNorm;
  /** The embeddings whose weight the projection has; undefined where it has one of its own. */
  readonly tiedTo: string | undefined;
  /** A tensor that is added to the logits. The projection is then none that adapters can change. */
  readonly bias?: string;
  /** Name of the projection. Default lm_head. */
  readonly name?: string;
  /** Soft cap c of the logits, c tanh(logit / c). Default none. */
  readonly cap?: number | undefined;
}

/** A language model's head: a projection to the vocabulary. */
export function languageModel(
  vocabulary: number,
  { hidden, norm = identity, tiedTo, bias, name = "lm_head", cap }: LanguageModelHead,
): Head {
  const tiedOutput = tiedTo === undefined ? undefined : { module: name, table: tiedTo };
  const output: NonNullable<Head["output"]> = (forward, hiddenStates) => ({
    x: forward.once(`norm of value ${hiddenStates.id}`, () => norm(forward, hiddenStates)),
    w: tiedOutput ? forward.tiedWeight(tiedOutput) : forward.parameter(`${name}.weight`),
    bias: bias === undefined ? undefined : forward.parameter(bias),
    cap,
  });
  const isProjection = tiedTo === undefined && bias === undefined;
  const capped = ({ recorder }: Forward, x: Value): Value => {
    if (cap === undefined) return x;
    const narrowed = recorder.apply(tanh, { x: recorder.apply(scale, { x }, { factor: 1 / cap }) }, {});
    return recorder.apply(scale, { x: narrowed }, { factor: cap });
  };
  return {
    task: "causal_lm",
    classes: vocabulary,
    heads: [],
    output,
    tiedOutput,
    projections: isProjection ? [projection(name, hidden, vocabulary, false)] : [],
    apply(forward, hiddenStates) {
      const { cap: _, ...inputs } = output(forward, hiddenStates);
      return forward.recorder.labelled(name, () => {
        const logits = isProjection
          ? forward.linear(name, inputs.x)
          : forward.recorder.apply(linear, inputs, { layout: "out_in" });
        return capped(forward, logits);
      });
    },
  };
}

/** Head for image classification: a projection of the class token. The norm is applied to this token only. */
export function imageClassifier(config: Readonly<Record<string, unknown>>, hidden: number, norm: FinalNorm): Head {
  const classes = labelCount(config);
  return {
    task: "image_classification",
    classes,
    heads: ["classifier"],
    projections: [projection("classifier", hidden, classes)],
    apply: (forward, x) =>
      forward.linear("classifier", norm(forward, pick(forward, "classifier", x, forward.firstTokens))),
  };
}

/** A classifier of sums of an image's tokens. */
export interface PooledClassifier {
  readonly hidden: number;
  readonly norm: FinalNorm;
  /** The trace's input that has the weights of the sums [sums, tokens]. */
  readonly weights: string;
  readonly sums: number;
}

/** Head for image classification: a projection of weighted sums of the tokens after the norm, side by side. */
export function pooledClassifier(
  config: Readonly<Record<string, unknown>>,
  { hidden, norm, weights: name, sums }: PooledClassifier,
): Head {
  const classes = labelCount(config);
  return {
    task: "image_classification",
    classes,
    heads: ["classifier"],
    projections: [projection("classifier", sums * hidden, classes)],
    apply(forward, x) {
      const { recorder } = forward;
      const weights = recorder.input(name, [sums, x.shape[1]!]);
      const normed = norm(forward, x);
      const pooled = recorder.labelled("classifier", () => recorder.apply(poolTokens, { x: normed, weights }, {}));
      return forward.linear("classifier", pooled);
    },
  };
}

/** The weights of `pool_tokens` [2, tokens] that choose the first token, and the mean of the others. */
export const classAndMeanWeights = (tokens: number): Float32Array =>
  Float32Array.from({ length: 2 * tokens }, (_, i) => {
    const isFirst = i % tokens === 0;
    if (i < tokens) return isFirst ? 1 : 0;
    return isFirst ? 0 : 1 / (tokens - 1);
  });

/** ModernBERT's head: a projection, GELU, a norm, dropout, and a projection to the classes. */
export interface PredictionClassifier {
  readonly task: Task;
  readonly hidden: number;
  /** What it reads: a text's first token, the mean of those that are not padding, or every token, to tag it or find an answer. */
  readonly pooling: "cls" | "mean" | "none";
  /** Whether the first projection has a bias. */
  readonly bias: boolean;
  readonly dropout: number;
  /** The model's last norm, and the head's own. */
  readonly norm: FinalNorm;
  readonly innerNorm: FinalNorm;
}

/** The head of `PredictionClassifier`. The first projection is a part of the checkpoint. */
export function predictionClassifier(
  config: Readonly<Record<string, unknown>>,
  { task, hidden, pooling, bias, dropout, norm, innerNorm }: PredictionClassifier,
): Head {
  const classes = task === "question_answering" ? 2 : labelCount(config);
  const pooled = (forward: Forward, x: Value): Value => {
    if (pooling === "none") return norm(forward, x);
    if (pooling === "cls") return norm(forward, pick(forward, "head", x, forward.firstTokens));
    const inputs = { x: norm(forward, x), weights: forward.meanWeights };
    return forward.recorder.labelled("head", () => forward.recorder.apply(poolTokens, inputs, {}));
  };
  return {
    task,
    classes,
    heads: ["classifier"],
    projections: [projection("head.dense", hidden, hidden, bias), projection("classifier", hidden, classes)],
    apply(forward, x) {
      const inner = forward.linear("head.dense", pooled(forward, x));
      const active = forward.recorder.labelled("head", () => ACTIVATIONS.gelu(forward.recorder, inner));
      return forward.linear("classifier", forward.dropout(innerNorm(forward, active), dropout));
    },
  };
}
