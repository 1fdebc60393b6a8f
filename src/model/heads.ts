import { ConfigError } from "../base/errors";
import { embedding } from "../ops/embedding";
import { linear } from "../ops/linear";
import { tanh } from "../ops/tanh";
import type { Value } from "../tape/tape";
import { labelCount } from "./config";
import type { Forward } from "./forward";
import type { Model, Projection, Task } from "./model";

/** What a model's last layer feeds: its own projections, and how hidden states become logits. */
export interface Head extends Pick<Model, "task" | "classes" | "heads"> {
  readonly projections: readonly Projection[];
  apply(forward: Forward, x: Value): Value;
  readonly output?: Model["output"];
}

/** A decoder's or ViT's last norm, of all tokens or of the few that the head reads. */
export type FinalNorm = (forward: Forward, x: Value) => Value;

const asIs: FinalNorm = (_, x) => x;

/** What a decoder's hidden states can be asked for. */
export const DECODER_TASKS: readonly Task[] = ["causal_lm", "sequence_classification", "question_answering"];

const SUFFIXES: readonly (readonly [RegExp, Task])[] = [
  [/ForSequenceClassification$/, "sequence_classification"],
  [/ForQuestionAnswering$/, "question_answering"],
  [/ForImageClassification$/, "image_classification"],
  [/(?:ForCausalLM|LMHeadModel)$/, "causal_lm"],
];

/**
 * What a configuration's `architectures` are for, as Hugging Face names them; `fallback` where they name none of these
 * (a bare or a pre-training model). One label, or `problem_type` regression, makes a classification a regression.
 * @throws ConfigError for a task that the family has no head for.
 */
export function taskOf(
  config: Readonly<Record<string, unknown>>,
  family: string,
  known: readonly Task[],
  fallback: Task,
): Task {
  const architectures: unknown = config["architectures"];
  const architecture: unknown = Array.isArray(architectures) ? architectures[0] : undefined;
  const named = SUFFIXES.find(([suffix]) => typeof architecture === "string" && suffix.test(architecture))?.[1];
  const task = named ?? fallback;
  if (!known.includes(task)) {
    throw new ConfigError(
      `config.json: ${String(architecture)} is a head that ${family} does not have here.`,
      `Its heads are for ${known.join(", ")}.`,
    );
  }
  const isRegression = config["problem_type"] === "regression" || labelCount(config) === 1;
  return task === "sequence_classification" && isRegression ? "regression" : task;
}

/** A projection outside the layers. */
function projection(name: string, from: number, to: number, bias = true): Projection {
  return { name, in: from, out: to, layout: "out_in", bias, layer: undefined };
}

/** One token of each row: [b, d]. */
function pick(forward: Forward, name: string, x: Value, tokens: Value): Value {
  return forward.recorder.labelled(name, () => forward.recorder.apply(embedding, { table: x, ids: tokens }, {}));
}

/** BERT's: tanh of a projection of the first token (the pooler, part of the checkpoint), dropout, a projection. */
export function pooledClassifier(
  config: Readonly<Record<string, unknown>>,
  { task, hidden, pooler, dropout }: { task: Task; hidden: number; pooler: string; dropout: number },
): Head {
  const classes = labelCount(config);
  return {
    task,
    classes,
    heads: ["classifier"],
    projections: [projection(`${pooler}.dense`, hidden, hidden), projection("classifier", hidden, classes)],
    apply(forward, x) {
      const first = pick(forward, pooler, x, forward.firstTokens);
      const pooled = forward.recorder.labelled(pooler, () =>
        forward.recorder.apply(tanh, { x: forward.linear(`${pooler}.dense`, first) }, {}),
      );
      return forward.linear("classifier", forward.dropout(pooled, dropout));
    },
  };
}

/** RoBERTa's: dropout, a projection of the first token, tanh, dropout, a projection; all of it belongs to the task. */
export function denseClassifier(
  config: Readonly<Record<string, unknown>>,
  { task, hidden, dropout }: { task: Task; hidden: number; dropout: number },
): Head {
  const classes = labelCount(config);
  return {
    task,
    classes,
    heads: ["classifier"],
    projections: [projection("classifier.dense", hidden, hidden), projection("classifier.out_proj", hidden, classes)],
    apply(forward, x) {
      const first = forward.dropout(pick(forward, "classifier", x, forward.firstTokens), dropout);
      const inner = forward.linear("classifier.dense", first);
      const active = forward.recorder.labelled("classifier", () => forward.recorder.apply(tanh, { x: inner }, {}));
      return forward.linear("classifier.out_proj", forward.dropout(active, dropout));
    },
  };
}

/** Scores of every token for being an answer's start and end: [b, t, 2]. */
export function answerSpan(hidden: number, norm = asIs): Head {
  return {
    task: "question_answering",
    classes: 2,
    heads: ["qa_outputs"],
    projections: [projection("qa_outputs", hidden, 2)],
    apply: (forward, x) => forward.linear("qa_outputs", norm(forward, x)),
  };
}

/**
 * GPT-2's and LLaMA's classification: a projection without bias of each text's last token that is not padding. A norm
 * takes each token by itself, so that only this one is normed, and kept.
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

/** A language model's: a projection to the vocabulary, by the token embeddings where the two are tied. */
export function languageModel(
  vocabulary: number,
  { hidden, norm, tiedTo }: { hidden: number; norm: FinalNorm; tiedTo: string | undefined },
): Head {
  const output = (forward: Forward, hiddenStates: Value): { x: Value; w: Value } => ({
    x: forward.once(`norm of value ${hiddenStates.id}`, () => norm(forward, hiddenStates)),
    w: forward.parameter(tiedTo ?? "lm_head.weight"),
  });
  return {
    task: "causal_lm",
    classes: vocabulary,
    heads: [],
    output,
    projections: tiedTo === undefined ? [projection("lm_head", hidden, vocabulary, false)] : [],
    apply(forward, hiddenStates) {
      const inputs = output(forward, hiddenStates);
      if (tiedTo === undefined) return forward.linear("lm_head", inputs.x);
      return forward.recorder.labelled("lm_head", () => forward.recorder.apply(linear, inputs, { layout: "out_in" }));
    },
  };
}

/** A projection of an image's class token, the only one that is normed. */
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
