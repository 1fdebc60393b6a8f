import { ConfigError } from "../base/errors";
import { bert, roberta } from "./bert";
import { gpt2 } from "./gpt2";
import { llama } from "./llama";
import type { Model, Task } from "./model";
import { vit } from "./vit";

/** `model_type` -> how to build the model from its config.json. */
const FAMILIES: Readonly<Record<string, (config: Readonly<Record<string, unknown>>) => Model>> = {
  bert,
  roberta,
  gpt2,
  llama,
  vit,
};

/** The families that can be loaded, by `model_type`. */
export const MODEL_TYPES: readonly string[] = Object.keys(FAMILIES);

/**
 * The model that a config.json describes, without its weights.
 * @throws ConfigError for an unknown `model_type`, activation, or a value that makes no sense.
 */
export function createModel(config: Readonly<Record<string, unknown>>): Model {
  const type = config["model_type"];
  const build = typeof type === "string" && Object.hasOwn(FAMILIES, type) ? FAMILIES[type] : undefined;
  if (!build) {
    throw new ConfigError(
      `config.json: model_type ${JSON.stringify(type)} is unknown.`,
      `Supported families: ${MODEL_TYPES.join(", ")}.`,
    );
  }
  return build(config);
}

/** How Hugging Face's architectures begin, by `model_type`, and end, by task. */
const ARCHITECTURES: Readonly<Record<string, string>> = {
  bert: "Bert",
  roberta: "Roberta",
  gpt2: "GPT2",
  llama: "Llama",
  vit: "ViT",
};
const ENDINGS: Readonly<Record<Task, string>> = {
  sequence_classification: "ForSequenceClassification",
  regression: "ForSequenceClassification",
  question_answering: "ForQuestionAnswering",
  causal_lm: "ForCausalLM",
  image_classification: "ForImageClassification",
};

/** Labels of tasks that have a number of their own: a value; an answer's start and end. */
const OWN_LABELS: Readonly<Partial<Record<Task, number>>> = { regression: 1, question_answering: 2 };

export interface HeadOptions {
  /** Another head than the one that `architectures` names. */
  readonly task?: Task | undefined;
  /** Overrides `num_labels`; makes a classifier of a model that is none. */
  readonly labels?: number | undefined;
}

/**
 * The configuration of the same model with another head, as Hugging Face would write it.
 * @throws ConfigError for a number of labels that makes no sense.
 */
export function withHead(config: Readonly<Record<string, unknown>>, options: HeadOptions): Record<string, unknown> {
  if (options.task === undefined && options.labels === undefined) return { ...config };
  const task = options.task ?? labelledTask(createModel(config).task);
  const labels = options.labels ?? OWN_LABELS[task];
  const type = String(config["model_type"]);
  const isTied = type === "gpt2" && task === "causal_lm";
  const architecture = `${ARCHITECTURES[type] ?? type}${isTied ? "LMHeadModel" : ENDINGS[task]}`;
  const { problem_type: problem, ...rest } = config;
  const keepsProblem = problem !== undefined && problem !== "regression" && task === "sequence_classification";
  const kind = task === "regression" ? { problem_type: "regression" } : keepsProblem ? { problem_type: problem } : {};
  const changed = { ...rest, ...kind, architectures: [architecture] };
  return labels === undefined ? changed : withLabels(changed, labels);
}

/** The task that a number of labels is for: a model's own where it classifies. One label makes it a regression. */
const labelledTask = (task: Task): Task => (task === "image_classification" ? task : "sequence_classification");

function withLabels(config: Readonly<Record<string, unknown>>, labels: number): Record<string, unknown> {
  if (!Number.isInteger(labels) || labels < 1) {
    throw new ConfigError(`${labels} labels are asked for.`, "Give a whole number from 1.");
  }
  const { id2label: _names, label2id: _ids, ...rest } = config;
  return { ...rest, num_labels: labels };
}
