// The model that the user chose: where its files are, and what it can learn.
import * as v from "valibot";
import { ConfigError, FileFormatError } from "../../../src/base/errors";
import { fetchDirectory } from "../../../src/io/fetch-directory";
import type { Directory } from "../../../src/io/directory";
import { openCheckpoint } from "../../../src/io/checkpoint";
import { COMPANIONS } from "../../../src/io/companion-files";
import { decodeText, jsonBytes, readJson } from "../../../src/io/json";
import { labelNamesOf } from "../../../src/model/config";
import { createModel, loadFamily, withHead } from "../../../src/model/families";
import type { HeadOptions } from "../../../src/model/families";
import type { Model } from "../../../src/model/model";
import { loadTokenizer } from "../../../src/data/tokenizer";
import type { Tokenizer } from "../../../src/data/tokenizer";
import { loadChatTemplate } from "../../../src/data/chat-template";
import type { ChatTemplate } from "../../../src/data/chat-template";
import type { ModelFacts, ModelSource, StudioTask } from "../protocol";
import { givenDirectory, MODELS, pieces, removeStored, storedFolder, storedFolders, withFile } from "./directories";

const CONFIG = v.record(v.string(), v.unknown());

/** Where OWNER/NAME is. */
const HUB = "https://huggingface.co/";

export interface OpenedModel {
  readonly source: ModelSource;
  readonly directory: Directory;
  readonly config: Readonly<Record<string, unknown>>;
  readonly facts: ModelFacts;
  tokenizer(): Promise<Tokenizer>;
  chatTemplate(): Promise<ChatTemplate | undefined>;
}

/** The directory of a source, and its name. @throws ConfigError or FileFormatError for what cannot be one. */
async function directoryOf(
  source: ModelSource,
  onProgress: (text: string) => void,
): Promise<{ readonly directory: Directory; readonly name: string }> {
  if (source.kind === "shipped") {
    return { directory: fetchDirectory(new URL("model/", location.href)), name: "the example's BERT" };
  }
  if (source.kind === "kept") return { directory: await storedFolder(MODELS, source.name), name: source.name };
  if (source.kind === "files") {
    const [first] = source.files;
    if (!first)
      throw new FileFormatError("The folder is empty.", "Give the folder of a model, with config.json in it.");
    const name = first.path.includes("/") ? first.path.split("/")[0]! : "the given files";
    return { directory: givenDirectory(name, source.files), name };
  }
  const { token, url } = source;
  const address = addressOf(url);
  const headers = token ? { authorization: `Bearer ${token}` } : undefined;
  const directory = fetchDirectory(address, {
    ...(headers && { request: { headers } }),
    onProgress: ({ file, loaded, total }) => onProgress(`Fetching ${file}: ${megabytes(loaded, total)}`),
  });
  return { directory, name: nameOf(url) };
}

const megabytes = (loaded: number, total?: number): string =>
  `${(loaded / 1e6).toFixed(1)}${total === undefined ? "" : ` of ${(total / 1e6).toFixed(1)}`} MB`;

/** The address of a model: as it is given, or that of the Hub for OWNER/NAME. @throws ConfigError for anything else. */
function addressOf(given: string): string {
  const text = given.trim();
  if (/^[\w.-]+\/[\w.-]+$/.test(text)) return `${HUB}${text}/resolve/main/`;
  if (/^https?:\/\/\S+$/.test(text)) return text.replace(/\/(?:config\.json)?$/, "") + "/";
  throw new ConfigError(
    `${JSON.stringify(text.slice(0, 80))} is neither an address nor a name of the Hub.`,
    "Give https://... of a folder with config.json, or OWNER/NAME.",
  );
}

/** A short name for messages and folders. */
const nameOf = (url: string): string =>
  url
    .trim()
    .replace(/\/(?:resolve\/main\/?)?$/, "")
    .split("/")
    .slice(-2)
    .join("/");

/** A folder's name in the browser's storage for a model of this name, which no other model has. */
async function freeName(name: string): Promise<string> {
  const plain = name.replace(/[^\w.-]+/g, "--").slice(0, 100);
  const taken = new Set((await storedFolders(MODELS)).map((folder) => folder.name));
  for (let i = 1; ; i++) {
    const candidate = i === 1 ? plain : `${plain}-${i}`;
    if (!taken.has(candidate)) return candidate;
  }
}

/**
 * Opens a model's directory, without its weights.
 * @throws FileFormatError for a directory without config.json or weights, ConfigError for a family that is not supported or that nothing
 * here can train.
 */
export async function openStudioModel(source: ModelSource, onProgress: (text: string) => void): Promise<OpenedModel> {
  const { directory, name } = await directoryOf(source, onProgress);
  if ((await directory.size("config.json")) === undefined) {
    const files = await directory.list();
    const seen = files.length > 0 ? ` It has ${files.slice(0, 5).join(", ")}.` : "";
    throw new FileFormatError(
      `There is no config.json in ${name}.${seen}`,
      "Give the folder of a model as the Hugging Face Hub has it: config.json, model.safetensors, tokenizer.json.",
    );
  }
  const config = await readJson(directory, "config.json", CONFIG);
  await loadFamily(config);
  const model = createModel(config);
  const checkpoint = await openCheckpoint(directory);
  const bytes = checkpoint.names().reduce((sum, tensor) => sum + checkpoint.info(tensor).bytes, 0);
  const tasks = tasksOf(config);
  if (tasks.length === 0) {
    throw new ConfigError(`Nothing here trains a model of the family ${model.family}.`, "Use safetape train.");
  }
  const tokenizer = once(async () => loadTokenizer(directory));
  const chatTemplate = once(async () => loadChatTemplate(directory));
  const facts: ModelFacts = {
    name,
    family: model.family,
    layers: model.layers,
    parameters: countOf(model),
    bytes,
    maxLength: Number.isFinite(model.maxLength) ? model.maxLength : undefined,
    tasks,
    labels: labelNamesOf(config) ?? [],
    licence: await licenceOf(directory),
    hasChatTemplate: model.image ? false : (await chatTemplate()) !== undefined,
    isKept: source.kind === "shipped" || source.kind === "kept",
  };
  if (!model.image) await tokenizer();
  return { source, directory, config, facts, tokenizer, chatTemplate };
}

const countOf = ({ parameters }: Model): number =>
  parameters.reduce((sum, { shape, isBuffer }) => (isBuffer ? sum : sum + shape.reduce((a, b) => a * b, 1)), 0);

function once<T>(load: () => Promise<T>): () => Promise<T> {
  let loaded: Promise<T> | undefined;
  return () => (loaded ??= load());
}

/** The licence in the front matter of a model card. */
async function licenceOf(directory: Directory): Promise<string | undefined> {
  if ((await directory.size("README.md")) === undefined) return undefined;
  const text = decodeText(await directory.read("README.md"), "README.md");
  return /^---\n(?:[^]*?\n)?license:[ \t]*["']?([\w.+-]+)/.exec(text.replaceAll("\r\n", "\n"))?.[1];
}

/** The heads that a task may be trained with. */
const HEADS: Readonly<Record<StudioTask, HeadOptions>> = {
  classify: { task: "sequence_classification", labels: 2 },
  answer: { task: "generation" },
  text: { task: "generation" },
  images: { task: "image_classification", labels: 2 },
};

/** The tasks that a family has heads for. */
function tasksOf(config: Readonly<Record<string, unknown>>): StudioTask[] {
  const isImage = createModel(config).image !== undefined;
  // A constant object's keys are those of its type.
  return (Object.keys(HEADS) as StudioTask[]).filter((task) => {
    if (isImage !== (task === "images")) return false;
    try {
      const model = createModel(withHead(withoutLabels(config), HEADS[task]));
      return !(task === "text" && model.encoderDecoder);
    } catch {
      return false;
    }
  });
}

/** A configuration without the names of its classes. */
export function withoutLabels(config: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const { id2label: _names, label2id: _ids, num_labels: _count, ...rest } = config;
  return rest;
}

/** The directory and the configuration for another set of classes: without the names of its own, which would be refused. */
export function forNewLabels(opened: OpenedModel): Pick<OpenedModel, "directory" | "config"> {
  const config = withoutLabels(opened.config);
  return { config, directory: withFile(opened.directory, "config.json", jsonBytes(config)) };
}

/** Copies a model into the browser's storage, so that it is there after a reload. Throws as the storage does, which then has nothing of it. */
export async function keepStudioModel(opened: OpenedModel, onProgress: (text: string) => void): Promise<OpenedModel> {
  const { directory, facts } = opened;
  const folder = await freeName(facts.name);
  const to = await storedFolder(MODELS, folder);
  const weights = await weightFiles(directory);
  const beside = ["config.json", "generation_config.json", "README.md", ...COMPANIONS];
  const files = [...new Set([...weights, ...beside])];
  try {
    for (const file of files) {
      if ((await directory.size(file)) === undefined) continue;
      onProgress(`Storing ${file}`);
      await to.write(file, pieces(directory, file));
    }
  } catch (error) {
    await removeStored(MODELS, folder);
    throw error;
  }
  return { ...opened, source: { kind: "kept", name: folder }, directory: to, facts: { ...facts, isKept: true } };
}

async function weightFiles(directory: Directory): Promise<string[]> {
  const index = "model.safetensors.index.json";
  if ((await directory.size(index)) === undefined) return ["model.safetensors"];
  const { weight_map: map } = await readJson(
    directory,
    index,
    v.object({ weight_map: v.record(v.string(), v.string()) }),
  );
  return [...new Set(Object.values(map)), index];
}
