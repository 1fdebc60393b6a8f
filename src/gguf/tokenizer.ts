import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { templateSources } from "../data/chat-template";
import { loadTokenizer } from "../data/tokenizer";
import { readTokenizerConfig } from "../data/tokenizer-file";
import { readSentencePiece } from "../data/tokenization/sentencepiece";
import type { Directory } from "../io/directory";
import { readJson } from "../io/json";
import type { GgufMetadata } from "./file";

/** Kinds of tokens, SentencePiece's numbers. */
const NORMAL = 1;
const CONTROL = 3;
const USER_DEFINED = 4;
const UNUSED = 5;
/** SentencePiece's number of its BPE. */
const BPE = 2;

const STEP = v.looseObject({ type: v.string(), pattern: v.optional(v.looseObject({ Regex: v.optional(v.string()) })) });
const FILE = v.looseObject({
  pre_tokenizer: v.nullish(v.looseObject({ ...STEP.entries, pretokenizers: v.optional(v.array(STEP)) })),
  added_tokens: v.optional(v.array(v.looseObject({ id: v.number(), content: v.string(), special: v.boolean() })), []),
  model: v.looseObject({
    type: v.optional(v.string()),
    vocab: v.unknown(),
    merges: v.optional(v.array(v.unknown()), []),
  }),
});
const VOCAB = v.record(v.string(), v.number());

/** The names that llama.cpp has for splits of words, by the pattern that comes before bytes (its llama-vocab.cpp). */
const SPLITS: Readonly<Record<string, string>> = {
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+":
    "llama-bpe",
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+":
    "qwen2",
};

/** Tokens of all ids below a vocabulary's size. */
interface Tokens {
  readonly texts: string[];
  readonly kinds: number[];
}

/** Rows of the embedding that no token has. */
const emptyTokens = (count: number): Tokens => ({
  texts: Array.from({ length: count }, (_, id) => `[PAD${id}]`),
  kinds: Array.from({ length: count }, () => UNUSED),
});

/**
 * A tokenizer as llama.cpp reads it: from tokenizer.model (SentencePiece's BPE) or from tokenizer.json (BPE of bytes).
 * @param vocabulary rows of the embedding.
 * @throws ConfigError for a tokenizer that llama.cpp does not have, with what its step is.
 */
export async function tokenizerMetadata(directory: Directory, vocabulary: number): Promise<GgufMetadata> {
  const isSentencePiece = (await directory.size("tokenizer.model")) !== undefined;
  const tokens = isSentencePiece ? await ofPieces(directory, vocabulary) : await ofBytes(directory, vocabulary);
  const tokenizer = await loadTokenizer(directory);
  const id = (role: "bos" | "eos" | "pad" | "unk", key: string): GgufMetadata => {
    const special = tokenizer.specialId(role);
    return special === undefined ? {} : { [`tokenizer.ggml.${key}_token_id`]: { u32: special } };
  };
  const [begin] = tokenizer.beginIds;
  const { chat_template: inConfig } = await readTokenizerConfig(directory);
  const template = (await templateSources(directory, inConfig))?.plain;
  return {
    ...tokens,
    ...id("bos", "bos"),
    ...id("eos", "eos"),
    ...id("pad", "padding"),
    ...id("unk", "unknown"),
    "tokenizer.ggml.add_bos_token": { bool: begin !== undefined && begin === tokenizer.specialId("bos") },
    "tokenizer.ggml.add_eos_token": { bool: false },
    ...(template !== undefined && { "tokenizer.chat_template": { string: template } }),
  };
}

async function ofBytes(directory: Directory, vocabulary: number): Promise<GgufMetadata> {
  const file = await readJson(directory, "tokenizer.json", FILE);
  const { model, added_tokens: added, pre_tokenizer: split } = file;
  const steps = split?.pretokenizers ?? (split ? [split] : []);
  const name = nameOfSplit(steps);
  if (model.type !== "BPE" || name === undefined || !v.is(VOCAB, model.vocab)) {
    const found =
      model.type === "BPE" ? `splits texts by ${JSON.stringify(steps).slice(0, 200)}` : `is ${String(model.type)}`;
    throw new ConfigError(
      `The tokenizer in ${directory.name} ${found}, which has no name in GGUF.`,
      "Export the LoRA alone, and take the base model's GGUF.",
    );
  }
  const tokens = emptyTokens(vocabulary);
  for (const [text, id] of Object.entries(model.vocab)) {
    tokens.texts[id] = text;
    tokens.kinds[id] = NORMAL;
  }
  addTokens(tokens, added);
  const merges = model.merges.map((pair) => (Array.isArray(pair) ? pair.join(" ") : String(pair)));
  return {
    "tokenizer.ggml.model": { string: "gpt2" },
    "tokenizer.ggml.pre": { string: name },
    "tokenizer.ggml.tokens": { strings: tokens.texts },
    "tokenizer.ggml.token_type": { i32s: tokens.kinds },
    "tokenizer.ggml.merges": { strings: merges },
  };
}

/** The name of a split into words before bytes. */
function nameOfSplit(steps: readonly v.InferOutput<typeof STEP>[]): string | undefined {
  const [first, bytes, ...more] = steps;
  if (first?.type === "ByteLevel" && !bytes) {
    return first["use_regex"] !== false && first["add_prefix_space"] !== true ? "gpt-2" : undefined;
  }
  if (first?.type !== "Split" || bytes?.type !== "ByteLevel" || more.length > 0) return undefined;
  const pattern = first.pattern?.Regex;
  return pattern !== undefined && Object.hasOwn(SPLITS, pattern) ? SPLITS[pattern] : undefined;
}

function addTokens(
  tokens: Tokens,
  added: readonly { readonly id: number; readonly content: string; readonly special: boolean }[],
): void {
  for (const { id, content, special } of added) {
    tokens.texts[id] = content;
    tokens.kinds[id] = special ? CONTROL : USER_DEFINED;
  }
}

async function ofPieces(directory: Directory, vocabulary: number): Promise<GgufMetadata> {
  const { pieces, algorithm, addsPrefix } = readSentencePiece(await directory.read("tokenizer.model"));
  if (algorithm !== BPE) {
    throw new ConfigError(
      `The tokenizer.model in ${directory.name} is no BPE, and llama.cpp runs language models with BPE.`,
      "Export the LoRA alone, and take the base model's GGUF.",
    );
  }
  const tokens = emptyTokens(vocabulary);
  const scores = Array.from({ length: vocabulary }, () => -1000);
  pieces.forEach(({ text, score, kind }, id) => {
    tokens.texts[id] = text;
    tokens.kinds[id] = kind;
    scores[id] = score;
  });
  if ((await directory.size("tokenizer.json")) !== undefined) {
    const { added_tokens: added } = await readJson(directory, "tokenizer.json", FILE);
    addTokens(
      tokens,
      added.filter(({ id }) => id >= pieces.length),
    );
  }
  return {
    "tokenizer.ggml.model": { string: "llama" },
    "tokenizer.ggml.pre": { string: "default" },
    "tokenizer.ggml.tokens": { strings: tokens.texts },
    "tokenizer.ggml.scores": { f32s: scores },
    "tokenizer.ggml.token_type": { i32s: tokens.kinds },
    "tokenizer.ggml.add_space_prefix": { bool: addsPrefix },
  };
}
