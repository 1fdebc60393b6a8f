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
}

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
  const [architecture] = Array.isArray(config["architectures"]) ? (config["architectures"] as unknown[]) : [];
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

/** Each text's first hidden state. */
export function firstToken(forward: Forward, name: string, x: Value): Value {
  return forward.recorder.labelled(name, () =>
    forward.recorder.apply(embedding, { table: x, ids: forward.firstTokens }, {}),
  );
}

/** BERT's: tanh of a projection of the first token (the pooler, part of the checkpoint), dropout, a projection. */
export function pooledClassifier(
  config: Readonly<Record<string, unknown>>,
  { task, hidden, pooler, dropout }: { task: Task; hidden: number; pooler: string; dropout: number },
): Head {
  const classes = labelCount(config);
  return {
    ...{ task, classes, heads: ["classifier"] },
    projections: [projection(`${pooler}.dense`, hidden, hidden), projection("classifier", hidden, classes)],
    apply(forward, x) {
      const first = firstToken(forward, pooler, x);
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
    ...{ task, classes, heads: ["classifier"] },
    projections: [projection("classifier.dense", hidden, hidden), projection("classifier.out_proj", hidden, classes)],
    apply(forward, x) {
      const first = forward.dropout(firstToken(forward, "classifier", x), dropout);
      const inner = forward.linear("classifier.dense", first);
      const active = forward.recorder.labelled("classifier", () => forward.recorder.apply(tanh, { x: inner }, {}));
      return forward.linear("classifier.out_proj", forward.dropout(active, dropout));
    },
  };
}

/** Scores of every token for being an answer's start and end: [b, t, 2]. */
export function answerSpan(hidden: number): Head {
  return {
    ...{ task: "question_answering", classes: 2, heads: ["qa_outputs"] },
    projections: [projection("qa_outputs", hidden, 2)],
    apply: (forward, x) => forward.linear("qa_outputs", x),
  };
}

/** GPT-2's and LLaMA's classification: a projection without bias of each text's last token that is not padding. */
export function lastTokenScore(config: Readonly<Record<string, unknown>>, task: Task, hidden: number): Head {
  const classes = labelCount(config);
  return {
    ...{ task, classes, heads: ["score"] },
    projections: [projection("score", hidden, classes, false)],
    apply(forward, x) {
      const last = forward.recorder.labelled("score", () =>
        forward.recorder.apply(embedding, { table: x, ids: forward.lastTokens }, {}),
      );
      return forward.linear("score", last);
    },
  };
}

/** A language model's: a projection to the vocabulary, by the token embeddings where the two are tied. */
export function languageModel(vocabulary: number, hidden: number, tiedTo: string | undefined): Head {
  return {
    ...{ task: "causal_lm", classes: vocabulary, heads: [] },
    projections: tiedTo === undefined ? [projection("lm_head", hidden, vocabulary, false)] : [],
    apply(forward, x) {
      if (tiedTo === undefined) return forward.linear("lm_head", x);
      const w = forward.parameter(tiedTo);
      return forward.recorder.labelled("lm_head", () => forward.recorder.apply(linear, { x, w }, { layout: "out_in" }));
    },
  };
}

/** A projection of an image's class token. */
export function imageClassifier(config: Readonly<Record<string, unknown>>, hidden: number): Head {
  const classes = labelCount(config);
  return {
    ...{ task: "image_classification", classes, heads: ["classifier"] },
    projections: [projection("classifier", hidden, classes)],
    apply: (forward, x) => forward.linear("classifier", firstToken(forward, "classifier", x)),
  };
}
