import { ConfigError } from "../base/errors";
import { Registry } from "../base/registry";
import { bert, electra, roberta, xlmRoberta } from "./bert";
import { labelNamesOf } from "./config";
import type { StoredNames } from "./config";
import { FURTHER_FAMILIES, FURTHER_HEADS, FURTHER_TYPES, loadFurther, loadHeads } from "./further-families";
import type { Family, Model, Task } from "./model";

/** The function that makes a model from its config.json, by `model_type`. */
const FAMILIES: Readonly<Record<string, Family>> = {
  bert,
  roberta,
  "xlm-roberta": xlmRoberta,
  electra,
};

/** A family of a program's own. */
export interface AddedFamily {
  readonly family: Family;
  /** Beginning of its names of architectures. */
  readonly architecture: string;
  /** Whether its decoder reads the output of an encoder. */
  readonly isEncoderDecoder: boolean;
}

/** Families of a program's own, by `model_type`; see `registerFamily`. */
export const ADDED_FAMILIES = new Registry<AddedFamily>("model family");

/**
 * Key of config.json for a task that `architectures` does not tell: published checkpoints say BertForMaskedLM, and are loaded to be
 * fine-tuned. Other programs ignore it.
 */
const TASK_KEY = "safetape_task";

const isMasked = (config: Readonly<Record<string, unknown>>): boolean => config[TASK_KEY] === "masked_lm";

/** Values of `model_type` that come with the package. */
export const MODEL_TYPES: readonly string[] = [...Object.keys(FAMILIES), ...FURTHER_TYPES];

/**
 * Makes a configuration's family ready for `createModel` and `plan`. Only pages need it, where few families are there from the
 * start; what loads a model does it by itself. An unsupported `model_type` is left to `createModel`.
 */
export async function loadFamily(config: Readonly<Record<string, unknown>>): Promise<void> {
  const type = config["model_type"];
  if (typeof type === "string" && FURTHER_TYPES.includes(type)) await loadFurther(type);
  if (isMasked(config)) await loadHeads();
}

function familyOf(type: unknown): Family {
  const families = { ...FAMILIES, ...FURTHER_FAMILIES };
  const shipped = typeof type === "string" && Object.hasOwn(families, type) ? families[type] : undefined;
  const family = shipped ?? ADDED_FAMILIES.get(String(type))?.family;
  if (family) return family;
  if (MODEL_TYPES.includes(String(type))) {
    throw notLoaded(type);
  }
  throw new ConfigError(
    type === undefined
      ? "config.json has no model_type."
      : `config.json: model_type ${JSON.stringify(type)} is not supported.`,
    `Supported families: ${[...MODEL_TYPES, ...ADDED_FAMILIES.names].join(", ")}.`,
  );
}

const notLoaded = (type: unknown): ConfigError =>
  new ConfigError(`The family ${String(type)} is not loaded.`, "Call `await loadFamily(config)` first.");

/**
 * The model that a config.json describes, without weights.
 * @param stored the checkpoint whose weights it will have, where there is one.
 * @throws ConfigError for an unsupported `model_type` or activation, an invalid value, or, in a page, a family that is not loaded.
 */
export function createModel(config: Readonly<Record<string, unknown>>, stored?: StoredNames): Model {
  const family = familyOf(config["model_type"]);
  if (!isMasked(config)) return family(config, stored);
  const { maskedLm } = FURTHER_HEADS;
  if (!maskedLm) throw notLoaded(config["model_type"]);
  return maskedLm(family({ ...config, architectures: [ENDINGS.token_classification] }, stored), config);
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
  "deberta-v2": "DebertaV2",
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
  swin: "Swin",
  swinv2: "Swinv2",
};
/** Families whose decoder reads the output of an encoder. */
const ENCODER_DECODERS: readonly string[] = ["bart", "t5"];

/** Endings of Hugging Face's names of architectures, by task. */
const ENDINGS: Readonly<Record<Task, string>> = {
  sequence_classification: "ForSequenceClassification",
  regression: "ForSequenceClassification",
  token_classification: "ForTokenClassification",
  question_answering: "ForQuestionAnswering",
  causal_lm: "ForCausalLM",
  masked_lm: "ForMaskedLM",
  seq2seq: "ForConditionalGeneration",
  image_classification: "ForImageClassification",
};

/** Names of language models that are not put together in this way, by `model_type`. */
const LANGUAGE_MODELS: Readonly<Record<string, string>> = { gpt2: "GPT2LMHeadModel", gemma3_text: "Gemma3ForCausalLM" };

/** Number of labels of tasks for which it is fixed: one value; the start and the end of an answer. */
const FIXED_LABELS: Readonly<Partial<Record<Task, number>>> = { regression: 1, question_answering: 2 };

export interface HeadOptions {
  /**
   * The head's task; "generation" is that of a model that writes texts. Default the one that `architectures` names, but for masked
   * language models, which are loaded to be fine-tuned.
   */
  readonly task?: Task | "generation" | undefined;
  /** Number of labels, in place of `num_labels`. Without `task`, it makes the model a classifier. */
  readonly labels?: number | undefined;
  /**
   * Names of the labels, in place of `id2label`. A configuration of the same head that has all of them keeps its own names, in
   * its order.
   */
  readonly labelNames?: readonly string[] | undefined;
}

/**
 * A configuration with another head, as Hugging Face would write it.
 * @throws ConfigError if the number of labels is not a positive integer, and for names that the same head does not have.
 */
export function withHead(config: Readonly<Record<string, unknown>>, options: HeadOptions): Record<string, unknown> {
  const { labelNames } = options;
  if ((options.task ?? options.labels ?? labelNames) === undefined) return { ...config };
  const type = String(config["model_type"]);
  const added = ADDED_FAMILIES.get(type);
  const writing = ENCODER_DECODERS.includes(type) || added?.isEncoderDecoder ? "seq2seq" : "causal_lm";
  const task = options.task === "generation" ? writing : (options.task ?? labelledTask(createModel(config).task));
  const labels = options.labels ?? FIXED_LABELS[task];
  const irregular = task === "causal_lm" ? LANGUAGE_MODELS[type] : undefined;
  const architecture = irregular ?? `${ARCHITECTURES[type] ?? added?.architecture ?? type}${ENDINGS[task]}`;
  const { problem_type: problem, [TASK_KEY]: _task, ...rest } = config;
  const keepsProblem =
    problem !== undefined && problem !== "regression" && task === "sequence_classification" && labels !== 1;
  const kind = task === "regression" ? { problem_type: "regression" } : keepsProblem ? { problem_type: problem } : {};
  const marked = task === "masked_lm" && { [TASK_KEY]: task };
  const changed = { ...rest, ...kind, ...marked, architectures: [architecture] };
  if (labelNames) return withLabelNames(changed, keptNames(config, architecture, labelNames));
  return labels === undefined ? changed : withLabels(changed, labels);
}

/** The names of a configuration's own labels if its head is the same, else `names`. */
function keptNames(
  config: Readonly<Record<string, unknown>>,
  architecture: string,
  names: readonly string[],
): readonly string[] {
  const { architectures } = config;
  const isSame = Array.isArray(architectures) && architectures[0] === architecture;
  const own = isSame ? labelNamesOf(config) : undefined;
  if (!own) return names;
  const missing = names.find((name) => !own.includes(name));
  if (missing === undefined) return own;
  throw new ConfigError(
    `config.json: id2label does not have the label ${missing} of the data; it has ${own.join(", ")}.`,
    "Leave id2label and label2id out of config.json to train a new head, or correct the data.",
  );
}

function withLabelNames(config: Readonly<Record<string, unknown>>, names: readonly string[]): Record<string, unknown> {
  const { num_labels: _count, ...rest } = config;
  return {
    ...rest,
    id2label: Object.fromEntries(names.map((name, label) => [String(label), name])),
    label2id: Object.fromEntries(names.map((name, label) => [name, label])),
  };
}

/** The task of a head with a number of labels. (`taskOf` makes it a regression if there is one label.) */
const labelledTask = (task: Task): Task =>
  task === "image_classification" || task === "token_classification" ? task : "sequence_classification";

function withLabels(config: Readonly<Record<string, unknown>>, labels: number): Record<string, unknown> {
  if (!Number.isInteger(labels) || labels < 1) {
    throw new ConfigError(`The number of labels is ${labels}.`, "Give a positive integer.");
  }
  const { id2label: _names, label2id: _ids, ...rest } = config;
  return { ...rest, num_labels: labels };
}
