import * as v from "valibot";
import { FileFormatError, SafetapeError } from "../base/errors";
import type { Directory } from "../io/directory";
import { generationConfig, tokenIds } from "../io/generation-config";
import { checkSchema, oneLine, readJson } from "../io/json";
import { SENTENCEPIECE_FILES } from "../io/tokenizer-files";
import type { AddedToken } from "./tokenization/added-tokens";
import { UnsupportedStep } from "./tokenization/step";
import type { Step } from "./tokenization/step";
import { hasStep, stepsFault } from "./tokenizer-steps";

export const TOKENIZER_FILE = "tokenizer.json";
export const TOKENIZER_CONFIG_FILE = "tokenizer_config.json";

const ID = v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(2 ** 31 - 1));
const TOKEN = v.nullish(v.union([v.string(), v.looseObject({ content: v.string() })]));

const STEP = v.nullish(v.record(v.string(), v.unknown()));
const FLAG = v.optional(v.boolean(), false);
const ADDED_TOKEN = v.object({
  id: ID,
  content: v.pipe(v.string(), v.minLength(1)),
  single_word: FLAG,
  lstrip: FLAG,
  rstrip: FLAG,
  special: FLAG,
  normalized: v.optional(v.boolean()),
});

const TOKENIZER = v.looseObject({
  normalizer: STEP,
  pre_tokenizer: STEP,
  post_processor: STEP,
  decoder: STEP,
  added_tokens: v.optional(v.array(ADDED_TOKEN), []),
  model: v.looseObject({
    type: v.optional(v.string()),
    vocab: v.unknown(),
    unk_token: v.nullish(v.string()),
    unk_id: v.nullish(ID),
  }),
});

export const SPECIAL_ROLES = ["pad", "unk", "cls", "sep", "mask", "bos", "eos"] as const;
const SPECIAL_TOKENS = {
  pad_token: TOKEN,
  unk_token: TOKEN,
  cls_token: TOKEN,
  sep_token: TOKEN,
  mask_token: TOKEN,
  bos_token: TOKEN,
  eos_token: TOKEN,
};
const CONFIG = v.looseObject({ model_max_length: v.nullish(v.number()), ...SPECIAL_TOKENS });
const SPECIAL_TOKENS_MAP = v.object(SPECIAL_TOKENS);
const MODEL_CONFIG = v.record(v.string(), v.unknown());

export type TokenizerConfig = v.InferOutput<typeof CONFIG>;

/** The content of a tokenizer's files. */
export interface TokenizerFiles {
  /** The file and its directory, for errors. */
  readonly where: string;
  readonly config: TokenizerConfig;
  readonly steps: {
    readonly normalizer: Step | undefined;
    readonly preTokenizer: Step | undefined;
    readonly model: Step;
    readonly postProcessor: Step | undefined;
    readonly decoder: Step | undefined;
  };
  /** The model's vocabulary. */
  readonly vocabulary: ReadonlyMap<string, number>;
  readonly addedTokens: readonly AddedToken[];
  /** The spellings of all ids. */
  readonly tokens: ReadonlyMap<number, string>;
  readonly specialIds: ReadonlySet<number>;
  /** `eos_token_id` of generation_config.json, else of config.json. */
  readonly endIds: readonly number[];
  /** One more than the largest id. */
  readonly vocabularySize: number;
  /** Whether tokens spell bytes, as GPT-2's do. */
  readonly isByteLevel: boolean;
}

/** Reads tokenizer_config.json, with the special tokens of special_tokens_map.json that it lacks. Throws as `readJson`. */
export async function readTokenizerConfig(directory: Directory): Promise<TokenizerConfig> {
  const config = await readIfThere(directory, TOKENIZER_CONFIG_FILE, CONFIG);
  const map = await readIfThere(directory, "special_tokens_map.json", SPECIAL_TOKENS_MAP);
  return { ...map, ...config };
}

/** The class of transformers that a family's tokenizer has, where tokenizer_config.json does not name one. */
const CLASSES: Readonly<Record<string, string>> = {
  llama: "LlamaTokenizer",
  mistral: "LlamaTokenizer",
  gemma: "GemmaTokenizer",
  gemma2: "GemmaTokenizer",
  t5: "T5Tokenizer",
  "deberta-v2": "DebertaV2Tokenizer",
  "xlm-roberta": "XLMRobertaTokenizer",
};

const ADDED = v.record(v.pipe(v.string(), v.digits()), v.omit(ADDED_TOKEN, ["id"]));
const ADDED_FILE = v.record(v.string(), ID);

type AddedTokenFile = v.InferOutput<typeof ADDED_TOKEN>;

const PLAIN_TOKEN = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };

/** The tokens of `added_tokens_decoder` in tokenizer_config.json. @throws FileFormatError for one that is not a token. */
function addedByConfig(config: TokenizerConfig, directory: string): AddedTokenFile[] {
  const where = `${TOKENIZER_CONFIG_FILE} in ${directory}`;
  const added = checkSchema(v.nullish(ADDED, {}), config["added_tokens_decoder"], where);
  return Object.entries(added).map(([id, token]) => ({ ...token, id: Number(id) }));
}

/**
 * The added tokens of tokenizer.json and those that transformers adds to them: those of tokenizer_config.json, and special tokens
 * that are words of the vocabulary alone, which would otherwise be split.
 */
function withMoreTokens(
  own: readonly AddedTokenFile[],
  vocabulary: ReadonlyMap<string, number>,
  config: TokenizerConfig,
  directory: string,
): AddedTokenFile[] {
  const all = new Map(own.map((token) => [token.content, token]));
  const owners = new Map(
    [...vocabulary, ...own.map(({ content, id }) => [content, id] as const)].map(([a, b]) => [b, a]),
  );
  const add = (token: AddedTokenFile): void => {
    if (all.has(token.content)) return;
    const id = vocabulary.get(token.content) ?? token.id;
    const owner = owners.get(id) ?? token.content;
    if (owner !== token.content) {
      const [added, known] = [token.content, owner].map((text) => JSON.stringify(text.slice(0, 60)));
      throw damaged(`${TOKENIZER_CONFIG_FILE} in ${directory}: ${added} has the id ${id}, which is ${known}'s`);
    }
    all.set(token.content, { ...token, id });
  };
  addedByConfig(config, directory).forEach(add);
  for (const role of SPECIAL_ROLES) {
    const content = contentOf(config[`${role}_token`]);
    const id = content === undefined ? undefined : vocabulary.get(content);
    if (content !== undefined && id !== undefined) add({ ...PLAIN_TOKEN, content, id });
  }
  return [...all.values()];
}

/** Reads tokenizer.json or, where it is missing, what a model of SentencePiece stands for. */
async function readTokenizer(
  directory: Directory,
  config: TokenizerConfig,
  modelType: unknown,
): Promise<{ readonly file: string; readonly tokenizer: v.InferOutput<typeof TOKENIZER> }> {
  const hasTokenizer = (await directory.size(TOKENIZER_FILE)) !== undefined;
  const file = hasTokenizer ? undefined : await sentencePieceFile(directory);
  if (file === undefined) {
    return { file: TOKENIZER_FILE, tokenizer: await readJson(directory, TOKENIZER_FILE, TOKENIZER) };
  }
  const added = new Map(addedByConfig(config, directory.name).map((token) => [token.id, token]));
  const moreAdded = (await readIfThere(directory, "added_tokens.json", ADDED_FILE)) ?? {};
  for (const [content, id] of Object.entries(moreAdded)) {
    if (!added.has(id)) added.set(id, { ...PLAIN_TOKEN, id, content });
  }
  const { tokenizer_class: named } = config;
  const implied = typeof modelType === "string" && Object.hasOwn(CLASSES, modelType) ? CLASSES[modelType] : undefined;
  const tokenizerClass = typeof named === "string" ? named : implied;
  const { fromSentencePiece } = await import("./tokenization/sentencepiece");
  const bytes = await directory.read(file);
  const model = `${file} in ${directory.name}`;
  const tokenizer = usable(model, () => fromSentencePiece(bytes, { tokenizerClass, config, added }));
  return { file, tokenizer: checkSchema(TOKENIZER, tokenizer, model) };
}

async function sentencePieceFile(directory: Directory): Promise<string | undefined> {
  for (const file of SENTENCEPIECE_FILES) if ((await directory.size(file)) !== undefined) return file;
  return undefined;
}

async function readIfThere<Schema extends v.GenericSchema>(
  directory: Directory,
  file: string,
  schema: Schema,
): Promise<v.InferOutput<Schema> | undefined> {
  return (await directory.size(file)) === undefined ? undefined : readJson(directory, file, schema);
}

/** The text of a special token. */
export function contentOf(token: v.InferOutput<typeof TOKEN>): string | undefined {
  return typeof token === "string" ? token : token?.content;
}

/**
 * Reads a tokenizer's files, and checks ids and numbers that limit loops.
 * @throws FileFormatError naming the file and the key.
 */
export async function readTokenizerFiles(directory: Directory): Promise<TokenizerFiles> {
  const config = await readTokenizerConfig(directory);
  const modelConfig = (await readIfThere(directory, "config.json", MODEL_CONFIG)) ?? {};
  const { file, tokenizer } = await readTokenizer(directory, config, modelConfig["model_type"]);
  const generation = await generationConfig(directory, modelConfig);
  const where = `${file} in ${directory.name}`;
  const { normalizer, pre_tokenizer, post_processor, decoder, model } = tokenizer;
  const fault = stepsFault([normalizer, pre_tokenizer, post_processor]) ?? stepsFault([decoder]);
  if (fault !== undefined) throw damaged(`${where}: ${fault}`);
  const vocabulary = vocabularyOf(model.vocab, where);
  const addedTokens = withMoreTokens(tokenizer.added_tokens, vocabulary, config, directory.name).map((token) => ({
    ...token,
    normalized: token.normalized ?? !token.special,
  }));
  const tokens = new Map<number, string>();
  for (const [token, id] of vocabulary) tokens.set(id, token);
  for (const { content, id } of addedTokens) tokens.set(id, content);
  let largest = -1;
  for (const id of tokens.keys()) largest = Math.max(largest, id);
  const { unk_id: unknownId } = model;
  if (typeof unknownId === "number" && unknownId > largest) {
    throw damaged(`${where}: unk_id is ${unknownId}, but the vocabulary ends at ${largest}`);
  }
  if (largest < 0) throw damaged(`${where} has an empty vocabulary`);
  return {
    where,
    config,
    steps: {
      normalizer: normalizer ?? undefined,
      preTokenizer: pre_tokenizer ?? undefined,
      model,
      postProcessor: post_processor ?? undefined,
      decoder: decoder ?? undefined,
    },
    vocabulary,
    addedTokens,
    tokens,
    specialIds: new Set(addedTokens.filter(({ special }) => special).map(({ id }) => id)),
    endIds: tokenIds(generation["eos_token_id"]),
    vocabularySize: largest + 1,
    isByteLevel: hasStep([normalizer, pre_tokenizer, decoder], "ByteLevel"),
  };
}

/** The vocabulary is an object (token -> id) or, for unigram models, a list of [token, score]. */
function vocabularyOf(vocabulary: unknown, where: string): Map<string, number> {
  if (Array.isArray(vocabulary)) {
    const bad = vocabulary.findIndex((entry) => !isScored(entry));
    if (bad >= 0) throw damaged(`${where}: entry ${bad} of the vocabulary is not a [token, score] pair`);
    // The check above has found pairs alone.
    return new Map((vocabulary as [string, number][]).map(([token], id) => [token, id]));
  }
  if (vocabulary === null || typeof vocabulary !== "object") throw damaged(`${where} has no vocabulary`);
  const ids = new Map<string, number>();
  for (const [token, id] of Object.entries(vocabulary)) {
    if (!v.is(ID, id))
      throw damaged(`${where}: the id of ${JSON.stringify(token.slice(0, 60))} is not an integer of at least 0`);
    ids.set(token, id);
  }
  return ids;
}

function isScored(entry: unknown): boolean {
  return Array.isArray(entry) && typeof entry[0] === "string" && typeof entry[1] === "number";
}

function damaged(fact: string): FileFormatError {
  return new FileFormatError(fact, "save the tokenizer again with the library that made it");
}

/**
 * What an action makes of a tokenizer's file.
 * @throws FileFormatError where it throws anything else: a step that is not supported, a regular expression that the tokenizer
 * library refuses.
 */
export function usable<T>(where: string, action: () => T): T {
  try {
    return action();
  } catch (cause) {
    if (cause instanceof SafetapeError) throw cause;
    const remedy =
      cause instanceof UnsupportedStep
        ? "correct the file, or use a tokenizer without it"
        : "save the tokenizer again with the library that made it";
    // The library throws Errors; a catch clause cannot say so.
    throw new FileFormatError(`${where} cannot be used: ${oneLine((cause as Error).message)}`, remedy, { cause });
  }
}
