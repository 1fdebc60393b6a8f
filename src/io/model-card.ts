import { ConfigError } from "../base/errors";
import type { Task } from "../model/model";
import type { Directory, NewFile } from "./directory";
import { directoryAt } from "./directory-like";

/** File of an adapter's card, which a hub shows as the page of the adapter. */
export const CARD_FILE = "README.md";

/** Metrics of an adapter on a data set. */
export interface CardResult {
  /** Name of the data set, for readers. */
  readonly dataset: string;
  /** Name of the data set on the Hub. Default `dataset`. */
  readonly datasetType?: string;
  /** Part of the data set, such as `validation`. */
  readonly split?: string;
  /** By name. Values that are not finite are left out. */
  readonly metrics: Readonly<Record<string, number>>;
}

/** What an adapter's card says besides what the adapter itself tells. */
export interface ModelCard {
  /**
   * ID of the base model on the Hub, OWNER/NAME. adapter_config.json names it as well. Default: that of the address or of the
   * Hub's cache that the model was loaded from; else the card names none.
   */
  readonly baseModel?: string;
  /** Identifier of the adapter's licence, such as `apache-2.0`. */
  readonly license?: string;
  /** Codes of languages, such as `en`. */
  readonly language?: readonly string[];
  /** IDs of the data sets that were trained on. */
  readonly datasets?: readonly string[];
  readonly results?: readonly CardResult[];
  /** Further text, in Markdown. */
  readonly text?: string;
}

/** What a card tells of the adapter, or of a model that it was merged into. */
export interface CardSubject {
  /** How it was made: trained, merged of several adapters, or merged into a model, whose card it is then. Default trained. */
  readonly made?: "trained" | "merged" | "into model";
  /** `peft_type` of adapter_config.json. */
  readonly peftType: string;
  /** Undefined if it is not known. */
  readonly task: Task | undefined;
  /** ID of the base model on the Hub; undefined if it is not known. */
  readonly baseModel: string | undefined;
}

/** The task of a Hub's page by the model's task. Encoder-decoders have none of their own there. */
const PIPELINES: Readonly<Partial<Record<Task, string>>> = {
  causal_lm: "text-generation",
  sequence_classification: "text-classification",
  regression: "text-classification",
  token_classification: "token-classification",
  question_answering: "question-answering",
  image_classification: "image-classification",
};

/** The version of PEFT whose layout the files have, and with which they were compared. */
const PEFT_VERSION = "0.21.0";

/** While a card has this line, it is written anew with the adapter or the model. */
const MARK = "<!-- Written by safetape, and again with every saveAdapter while this line is here. -->";

/** Whether a text may be the ID of a model on the Hub: OWNER/NAME or, of the oldest ones, NAME. */
export const isHubId = (id: string): boolean =>
  /^[A-Za-z0-9][\w.-]*(?:\/[A-Za-z0-9][\w.-]*)?$/.test(id) && !/\.\.|--/.test(id);

/** @throws ConfigError for a base model that is no ID of the Hub, such as a path. */
export function checkedBaseModel(id: string): string {
  if (isHubId(id)) return id;
  throw new ConfigError(`${id} is no ID of a model on the Hub.`, "Give OWNER/NAME, not a path.");
}

/**
 * The ID on the Hub of a model that was loaded from a directory: of its address there, or of the Hub's cache on disk.
 * @param name of the directory. @returns undefined for other places, where a path would mean nothing to others.
 */
export function hubIdOf(name: string): string | undefined {
  const address = /^https:\/\/(?:huggingface\.co|hf\.co)\/((?:[\w.-]+\/)?[\w.-]+)\/(?:resolve|raw)\//.exec(name)?.[1];
  const cached = /(?:^|[\\/])models--([\w.-]+)[\\/]snapshots[\\/][^\\/]+[\\/]?$/.exec(name)?.[1];
  const id = address ?? cached?.replace("--", "/");
  return id !== undefined && isHubId(id) ? id : undefined;
}

/**
 * The ID on the Hub of a base model as an adapter names it. A name that is also a directory here, or in a page may be one, is taken for a
 * path.
 */
export async function publishedBase(name: string): Promise<string | undefined> {
  if (!isHubId(name) || !name.includes("/")) return hubIdOf(name);
  return directoryAt(name).then(
    () => undefined,
    () => name,
  );
}

/** Whether a directory has a card that safetape wrote. */
export async function isOwnCard(directory: Directory): Promise<boolean> {
  if ((await directory.size(CARD_FILE)) === undefined) return false;
  return new TextDecoder().decode(await directory.read(CARD_FILE)).includes(MARK);
}

/** The card beside an adapter or a model, unless the directory has one that somebody else wrote. */
export async function cardFiles(directory: Directory, subject: CardSubject, card: ModelCard): Promise<NewFile[]> {
  if ((await directory.size(CARD_FILE)) !== undefined && !(await isOwnCard(directory))) return [];
  return [{ file: CARD_FILE, content: new TextEncoder().encode(cardText(subject, card)) }];
}

/** The text of a card: metadata in YAML between lines of dashes, as the Hub reads them, then Markdown. */
export function cardText(subject: CardSubject, card: ModelCard): string {
  const { baseModel, peftType, made = "trained" } = subject;
  const results = card.results?.filter(({ metrics }) => finite(metrics).length > 0) ?? [];
  const base = baseModel === undefined ? undefined : `[${baseModel}](https://huggingface.co/${baseModel})`;
  const sections = [
    `# ${titleOf(subject)}`,
    MARK,
    made === "into model"
      ? `${base ?? "A model"} with an adapter (\`${peftType}\`) merged into its weights by safetape.`
      : `An adapter${base === undefined ? "" : ` of ${base}`} in PEFT's layout (\`${peftType}\`), ${made === "merged" ? "merged by" : "trained with"} safetape.`,
    ...(card.text === undefined ? [] : [card.text.trim()]),
    ...(results.length === 0 ? [] : ["## Results", tableOf(results)]),
    ...(made === "into model" ? [] : ["### Framework versions", `- PEFT ${PEFT_VERSION}`]),
  ];
  return `---\n${frontMatter(subject, card, results)}---\n\n${sections.join("\n\n")}\n`;
}

function titleOf({ baseModel, peftType, made }: CardSubject): string {
  if (made === "into model") return `${baseModel ?? "Model"} with a merged ${peftType} adapter`;
  return baseModel === undefined ? `${peftType} adapter` : `${peftType} adapter of ${baseModel}`;
}

const finite = (metrics: CardResult["metrics"]): [string, number][] =>
  Object.entries(metrics).filter(([, value]) => Number.isFinite(value));

/** The metadata that the Hub knows, one key a line. */
function frontMatter(subject: CardSubject, card: ModelCard, results: readonly CardResult[]): string {
  const { baseModel, peftType, made } = subject;
  const isModel = made === "into model";
  const pipeline = pipelineOf(subject);
  const metrics = [...new Set(results.flatMap((result) => finite(result.metrics).map(([name]) => name)))];
  const tags = [
    ...(baseModel === undefined ? [] : [`base_model:${isModel ? "finetune" : "adapter"}:${baseModel}`]),
    ...(isModel ? [] : [...(peftType === "LORA" ? ["lora"] : []), "transformers"]),
  ];
  return [
    ...(baseModel === undefined ? [] : [line("base_model", baseModel)]),
    ...(card.datasets ? list("datasets", card.datasets) : []),
    ...(card.language ? list("language", card.language) : []),
    line("library_name", isModel ? "transformers" : "peft"),
    ...(card.license === undefined ? [] : [line("license", card.license)]),
    ...list("metrics", metrics),
    ...(pipeline === undefined ? [] : [line("pipeline_tag", pipeline)]),
    ...list("tags", tags),
    ...(results.length === 0 ? [] : modelIndex(subject, results)),
  ].join("");
}

const pipelineOf = ({ task }: CardSubject): string | undefined => (task === undefined ? undefined : PIPELINES[task]);

function modelIndex(subject: CardSubject, results: readonly CardResult[]): string[] {
  const pipeline = pipelineOf(subject) ?? "other";
  return [
    "model-index:\n",
    `- name: ${scalar(titleOf(subject))}\n`,
    "  results:\n",
    ...results.flatMap(({ dataset, datasetType = dataset, split, metrics }) => [
      "  - task:\n",
      `      type: ${pipeline}\n`,
      "    dataset:\n",
      `      name: ${scalar(dataset)}\n`,
      `      type: ${scalar(datasetType)}\n`,
      ...(split === undefined ? [] : [`      split: ${scalar(split)}\n`]),
      "    metrics:\n",
      ...finite(metrics).flatMap(([name, value]) => [
        `    - type: ${scalar(name)}\n`,
        `      value: ${decimal(value)}\n`,
      ]),
    ]),
  ];
}

/** A number in YAML, which in version 1.1 takes 1e-7 for a text and 1.0e-7 for a number. */
const decimal = (value: number): string => String(value).replace(/^(-?\d+)e/, "$1.0e");

const line = (key: string, value: string): string => `${key}: ${scalar(value)}\n`;
const list = (key: string, values: readonly string[]): string[] =>
  values.length === 0 ? [] : [`${key}:\n`, ...values.map((value) => `- ${scalar(value)}\n`)];

/** Words that YAML 1.1 takes for something else than a text: `no` is also the code of Norwegian. */
const NO_TEXT = /^(?:y|n|yes|no|on|off|true|false|null)$/i;

/** A text in YAML. One in double quotes is as JSON has it. */
const scalar = (text: string): string =>
  /^[A-Za-z][\w./-]*(?::[\w./-]+)*$/.test(text) && !NO_TEXT.test(text) ? text : JSON.stringify(text);

function tableOf(results: readonly CardResult[]): string {
  const rows = results.flatMap(({ dataset, split, metrics }) =>
    finite(metrics).map(([name, value]) => `| ${cell(dataset)} | ${cell(split ?? "")} | ${cell(name)} | ${value} |`),
  );
  return ["| data | part | metric | value |", "| --- | --- | --- | --- |", ...rows].join("\n");
}

const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("\n", " ");
