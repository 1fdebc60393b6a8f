import { ConfigError } from "../base/errors";
import { albert } from "./albert";
import { bart } from "./bart";
import { bert, electra, roberta, xlmRoberta } from "./bert";
import type { StoredNames } from "./config";
import { dinov2 } from "./dinov2";
import { distilbert } from "./distilbert";
import { gemma2, gemma3 } from "./gemma";
import { gptNeoX } from "./gpt-neox";
import { gpt2 } from "./gpt2";
import { llama } from "./llama";
import { mistral } from "./mistral";
import type { Model, Task } from "./model";
import { modernbert } from "./modernbert";
import { mpnet } from "./mpnet";
import { olmo2 } from "./olmo2";
import { phi3 } from "./phi3";
import { qwen2, qwen3 } from "./qwen";
import { smollm3 } from "./smollm3";
import { t5 } from "./t5";
import { deit, vit } from "./vit";

/** The function that makes a model from its config.json, by `model_type`. */
const FAMILIES: Readonly<Record<string, (config: Readonly<Record<string, unknown>>, stored?: StoredNames) => Model>> = {
  bart,
  bert,
  roberta,
  "xlm-roberta": xlmRoberta,
  distilbert,
  electra,
  albert,
  mpnet,
  modernbert,
  gpt2,
  llama,
  qwen2,
  qwen3,
  mistral,
  phi3,
  gemma2,
  gemma3_text: gemma3,
  olmo2,
  smollm3,
  gpt_neox: gptNeoX,
  t5,
  vit,
  deit,
  dinov2,
};

/** Supported values of `model_type`. */
export const MODEL_TYPES: readonly string[] = Object.keys(FAMILIES);

/**
 * The model that a config.json describes, without weights.
 * @param stored the checkpoint whose weights it will have, where there is one.
 * @throws ConfigError for an unsupported `model_type` or activation, or an invalid value.
 */
export function createModel(config: Readonly<Record<string, unknown>>, stored?: StoredNames): Model {
  const type = config["model_type"];
  const build = typeof type === "string" && Object.hasOwn(FAMILIES, type) ? FAMILIES[type] : undefined;
  if (!build) {
    throw new ConfigError(
      `config.json: model_type ${JSON.stringify(type)} is not supported.`,
      `Supported families: ${MODEL_TYPES.join(", ")}.`,
    );
  }
  return build(config, stored);
}

/** Beginnings of Hugging Face's names of architectures, by `model_type`. */
const ARCHITECTURES: Readonly<Record<string, string>> = {
  bart: "Bart",
  bert: "Bert",
  roberta: "Roberta",
  "xlm-roberta": "XLMRoberta",
  distilbert: "DistilBert",
  electra: "Electra",
  albert: "Albert",
  mpnet: "MPNet",
  modernbert: "ModernBert",
  gpt2: "GPT2",
  llama: "Llama",
  qwen2: "Qwen2",
  qwen3: "Qwen3",
  mistral: "Mistral",
  phi3: "Phi3",
  gemma2: "Gemma2",
  gemma3_text: "Gemma3Text",
  olmo2: "Olmo2",
  smollm3: "SmolLM3",
  gpt_neox: "GPTNeoX",
  t5: "T5",
  vit: "ViT",
  deit: "DeiT",
  dinov2: "Dinov2",
};
/** Families whose decoder reads the output of an encoder. */
const ENCODER_DECODERS: readonly string[] = ["bart", "t5"];

/** Endings of Hugging Face's names of architectures, by task. */
const ENDINGS: Readonly<Record<Task, string>> = {
  sequence_classification: "ForSequenceClassification",
  regression: "ForSequenceClassification",
  question_answering: "ForQuestionAnswering",
  causal_lm: "ForCausalLM",
  seq2seq: "ForConditionalGeneration",
  image_classification: "ForImageClassification",
};

/** Names of language models that are not put together in this way, by `model_type`. */
const LANGUAGE_MODELS: Readonly<Record<string, string>> = { gpt2: "GPT2LMHeadModel", gemma3_text: "Gemma3ForCausalLM" };

/** Number of labels of tasks for which it is fixed: one value; the start and the end of an answer. */
const FIXED_LABELS: Readonly<Partial<Record<Task, number>>> = { regression: 1, question_answering: 2 };

export interface HeadOptions {
  /** The head's task; "generation" is that of a model that writes texts. Default the one that `architectures` names. */
  readonly task?: Task | "generation" | undefined;
  /** Number of labels, in place of `num_labels`. Without `task`, it makes the model a classifier. */
  readonly labels?: number | undefined;
}

/**
 * A configuration with another head, as Hugging Face would write it.
 * @throws ConfigError if the number of labels is not a positive integer.
 */
export function withHead(config: Readonly<Record<string, unknown>>, options: HeadOptions): Record<string, unknown> {
  if (options.task === undefined && options.labels === undefined) return { ...config };
  const type = String(config["model_type"]);
  const writing = ENCODER_DECODERS.includes(type) ? "seq2seq" : "causal_lm";
  const task = options.task === "generation" ? writing : (options.task ?? labelledTask(createModel(config).task));
  const labels = options.labels ?? FIXED_LABELS[task];
  const irregular = task === "causal_lm" ? LANGUAGE_MODELS[type] : undefined;
  const architecture = irregular ?? `${ARCHITECTURES[type] ?? type}${ENDINGS[task]}`;
  const { problem_type: problem, ...rest } = config;
  const keepsProblem = problem !== undefined && problem !== "regression" && task === "sequence_classification";
  const kind = task === "regression" ? { problem_type: "regression" } : keepsProblem ? { problem_type: problem } : {};
  const changed = { ...rest, ...kind, architectures: [architecture] };
  return labels === undefined ? changed : withLabels(changed, labels);
}

/** The task of a head with a number of labels. (`taskOf` makes it a regression if there is one label.) */
const labelledTask = (task: Task): Task => (task === "image_classification" ? task : "sequence_classification");

function withLabels(config: Readonly<Record<string, unknown>>, labels: number): Record<string, unknown> {
  if (!Number.isInteger(labels) || labels < 1) {
    throw new ConfigError(`The number of labels is ${labels}.`, "Give a positive integer.");
  }
  const { id2label: _names, label2id: _ids, ...rest } = config;
  return { ...rest, num_labels: labels };
}
