import * as v from "valibot";
import { FileFormatError } from "../base/errors";
import type { Directory } from "../io/directory";
import { readJson } from "../io/json";
import type { Spelling } from "./offsets";
import { hasStep, stepsFault } from "./tokenizer-steps";

export const TOKENIZER_FILE = "tokenizer.json";
export const TOKENIZER_CONFIG_FILE = "tokenizer_config.json";

const ID = v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(2 ** 31 - 1));
const TOKEN = v.nullish(v.union([v.string(), v.looseObject({ content: v.string() })]));

const TOKENIZER = v.looseObject({
  normalizer: v.optional(v.unknown(), null),
  pre_tokenizer: v.optional(v.unknown(), null),
  post_processor: v.optional(v.unknown(), null),
  decoder: v.optional(v.unknown(), null),
  added_tokens: v.optional(v.array(v.looseObject({ id: ID, content: v.pipe(v.string(), v.minLength(1)) })), []),
  model: v.looseObject({
    type: v.optional(v.string()),
    vocab: v.unknown(),
    unk_token: v.nullish(v.string()),
    unk_id: v.nullish(ID),
  }),
});

const CONFIG = v.looseObject({
  model_max_length: v.nullish(v.number()),
  pad_token: TOKEN,
  unk_token: TOKEN,
  cls_token: TOKEN,
  sep_token: TOKEN,
  mask_token: TOKEN,
  bos_token: TOKEN,
  eos_token: TOKEN,
});

export type TokenizerConfig = v.InferOutput<typeof CONFIG>;

/** The content of a tokenizer's files. */
export interface TokenizerFiles {
  readonly tokenizer: v.InferOutput<typeof TOKENIZER>;
  readonly config: TokenizerConfig;
  /** One more than the largest id. */
  readonly vocabularySize: number;
  /** Whether the second text of a pair has the type 1. With RoBERTa's post-processor it has 0, unlike in the library. */
  readonly pairTypes: boolean;
  readonly spelling: Spelling;
  /** The token that replaces words that the vocabulary cannot spell. */
  readonly unknown: string | undefined;
}

/**
 * Reads both files, and checks what the tokenizer library does not: ids, and numbers that limit its loops.
 * @throws FileFormatError naming the file and the key.
 */
export async function readTokenizerFiles(directory: Directory): Promise<TokenizerFiles> {
  const tokenizer = await readJson(directory, TOKENIZER_FILE, TOKENIZER);
  const hasConfig = (await directory.size(TOKENIZER_CONFIG_FILE)) !== undefined;
  const config = hasConfig ? await readJson(directory, TOKENIZER_CONFIG_FILE, CONFIG) : {};
  const where = `${TOKENIZER_FILE} in ${directory.name}`;
  const { normalizer, pre_tokenizer, post_processor, decoder } = tokenizer;
  const fault = stepsFault([normalizer, pre_tokenizer, post_processor]) ?? stepsFault([decoder]);
  if (fault !== undefined) throw damaged(`${where}: ${fault}`);
  let largest = largestId(tokenizer.model.vocab, where);
  for (const { id } of tokenizer.added_tokens) largest = Math.max(largest, id);
  const { unk_id: unknownId } = tokenizer.model;
  if (typeof unknownId === "number" && unknownId > largest) {
    throw damaged(`${where}: unk_id is ${unknownId}, but the vocabulary ends at ${largest}`);
  }
  if (largest < 0) throw damaged(`${where} has an empty vocabulary`);
  const pairTypes = !hasStep([post_processor], "RobertaProcessing");
  const unknown = tokenizer.model.unk_token ?? undefined;
  return { tokenizer, config, vocabularySize: largest + 1, pairTypes, spelling: spellingOf(tokenizer), unknown };
}

function spellingOf({ model, pre_tokenizer, decoder }: v.InferOutput<typeof TOKENIZER>): Spelling {
  if (model.type === "WordPiece") return "wordpiece";
  return hasStep([pre_tokenizer, decoder], "ByteLevel") ? "bytes" : "metaspace";
}

/** The vocabulary is an object (token -> id) or, for unigram models, a list of [token, score]. */
function largestId(vocabulary: unknown, where: string): number {
  if (Array.isArray(vocabulary)) {
    const bad = vocabulary.findIndex((entry) => !isScored(entry));
    if (bad >= 0) throw damaged(`${where}: entry ${bad} of the vocabulary is not a [token, score] pair`);
    return vocabulary.length - 1;
  }
  if (vocabulary === null || typeof vocabulary !== "object") throw damaged(`${where} has no vocabulary`);
  let largest = -1;
  for (const [token, id] of Object.entries(vocabulary)) {
    if (!v.is(ID, id))
      throw damaged(`${where}: the id of ${JSON.stringify(token.slice(0, 60))} is not an integer of at least 0`);
    largest = Math.max(largest, id);
  }
  return largest;
}

function isScored(entry: unknown): boolean {
  return Array.isArray(entry) && typeof entry[0] === "string" && typeof entry[1] === "number";
}

function damaged(fact: string): FileFormatError {
  return new FileFormatError(fact, "save the tokenizer again with the library that made it");
}
