import { Tokenizer as Library } from "@huggingface/tokenizers";
import { DataError, FileFormatError, SafetapeError } from "../base/errors";
import type { Directory } from "../io/directory";
import { oneLine } from "../io/json";
import { tokenSpans } from "./offsets";
import { patternFault } from "./pattern-cost";
import type { Span } from "./offsets";
import type { EncodeOptions, Encoded, SpecialRole, Tokenizer } from "./tokenizer";
import { readTokenizerFiles } from "./tokenizer-file";
import type { TokenizerFiles } from "./tokenizer-file";

/** Loads a tokenizer as `loadTokenizer` does. This module imports the tokenizer library. */
export async function openTokenizer(directory: Directory): Promise<Tokenizer> {
  const files = await readTokenizerFiles(directory);
  const where = `tokenizer.json in ${directory.name}`;
  const library = guarded(where, () => {
    // The patterns are checked without a vocabulary first, since the library runs them on added tokens when it is created.
    checkPatterns(new Library({ ...files.tokenizer, ...NO_VOCABULARY }, {}), where);
    return new Library(files.tokenizer, files.config);
  });
  return new LoadedTokenizer(library, files, where);
}

const NO_VOCABULARY = { added_tokens: [], model: { type: "WordPiece", vocab: {}, unk_token: "" } };

/** @throws FileFormatError for a regular expression that could take forever. */
function checkPatterns({ normalizer, pre_tokenizer, decoder }: Library, where: string): void {
  for (const { source } of patternsIn([normalizer, pre_tokenizer, decoder])) {
    const fault = patternFault(source);
    if (fault === undefined) continue;
    throw new FileFormatError(
      `${where} has the pattern ${excerpt(oneLine(source))}, which may take forever: ${fault}`,
      "write the pattern without repeats within repeats",
    );
  }
}

/** The regular expressions in the library's steps, which are functions with properties. */
function patternsIn(steps: readonly unknown[]): RegExp[] {
  const patterns: RegExp[] = [];
  const visited = new Set<unknown>();
  const waiting = [...steps];
  while (waiting.length > 0) {
    const value = waiting.pop();
    if (value === null || (typeof value !== "object" && typeof value !== "function") || visited.has(value)) continue;
    visited.add(value);
    if (value instanceof RegExp) patterns.push(value);
    else for (const [key, property] of Object.entries(value)) if (key !== "config") waiting.push(property);
  }
  return patterns;
}

class LoadedTokenizer implements Tokenizer {
  readonly modelMaxLength: number | undefined;
  readonly vocabularySize: number;
  /** Ids of words: few of a language's words are most of a text. */
  readonly #words = new Map<string, readonly number[]>();

  constructor(
    private readonly library: Library,
    private readonly files: TokenizerFiles,
    private readonly where: string,
  ) {
    this.vocabularySize = files.vocabularySize;
    const limit = files.config.model_max_length;
    // Python writes 1e30 for no limit.
    this.modelMaxLength = typeof limit === "number" && limit >= 1 && limit < 2 ** 31 ? Math.floor(limit) : undefined;
  }

  specialId(role: SpecialRole): number | undefined {
    const token = this.files.config[`${role}_token`];
    const content = typeof token === "string" ? token : token?.content;
    return content === undefined ? undefined : this.idOf(content);
  }

  idOf(token: string): number | undefined {
    return this.library.token_to_id(token);
  }

  encode(text: string, pair?: string, options: EncodeOptions = {}): Encoded {
    const { specialTokens = true } = options;
    return guarded(this.where, () => {
      const first = this.#ids(text);
      const second = pair === undefined ? undefined : this.#ids(pair);
      const total = first.length + (second?.length ?? 0);
      const special = specialTokens ? this.#join([], second && [], true).ids.length : 0;
      const [firstLength, secondLength] = this.#lengths(first, second, special, options, text);
      const joined = this.#join(first.slice(0, firstLength), second?.slice(0, secondLength), specialTokens);
      return { ...joined, removed: total + special - joined.ids.length };
    });
  }

  locate(text: string): { readonly ids: readonly number[]; readonly spans: readonly Span[] } {
    const { tokens } = guarded(this.where, () => this.library.encode(text, { add_special_tokens: false }));
    const ids = guarded(this.where, () => this.#ids(text));
    const { spelling, unknown } = this.files;
    return { ids, spans: tokenSpans(text, tokens, spelling, unknown) };
  }

  wordIds(word: string): readonly number[] {
    const cached = this.#words.get(word);
    if (cached) return cached;
    const needsSpace = this.files.spelling === "bytes" && !word.startsWith(" ");
    const ids = guarded(this.where, () => this.#ids(needsSpace ? ` ${word}` : word));
    this.#words.set(word, ids);
    return ids;
  }

  decode(ids: Iterable<number>, { keepSpecial = false }: { readonly keepSpecial?: boolean } = {}): string {
    const list = [...ids];
    const unknown = list.find((id) => this.library.id_to_token(id) === undefined);
    if (unknown !== undefined) {
      throw new DataError(`no token has the id ${unknown}`, `ids of this tokenizer are below ${this.vocabularySize}`);
    }
    if (list.length === 0) return "";
    return guarded(this.where, () => this.library.decode(list, { skip_special_tokens: !keepSpecial }));
  }

  /** Numbers of tokens of both texts that fit. @param special number of special tokens. */
  #lengths(
    first: readonly number[],
    second: readonly number[] | undefined,
    special: number,
    { maxLength = Infinity, tooLong = "truncate" }: EncodeOptions,
    text: string,
  ): readonly [number, number] {
    const length = first.length + (second?.length ?? 0) + special;
    if (length <= maxLength) return [first.length, second?.length ?? 0];
    if (tooLong === "throw") {
      throw new DataError(
        `a text has ${length} tokens, more than the ${maxLength} allowed: ${excerpt(text)}`,
        "shorten it, or allow truncation",
      );
    }
    if (maxLength < special) {
      throw new DataError(
        `a maximum length of ${maxLength} has no room for the ${special} special tokens`,
        `allow at least ${special + 1} tokens`,
      );
    }
    return truncatedLengths(first.length, second?.length ?? 0, maxLength - special);
  }

  /** Ids of one text, without special tokens. */
  #ids(text: string): number[] {
    const { ids, tokens } = this.library.encode(text, { add_special_tokens: false });
    const bad = ids.findIndex((id) => !Number.isSafeInteger(id) || id < 0);
    if (bad >= 0) {
      throw new DataError(
        `the tokenizer has no id for ${JSON.stringify(tokens[bad] ?? "a token")} in ${excerpt(text)}`,
        "add an unknown token ([UNK]) to the vocabulary, or the missing one",
      );
    }
    return ids;
  }

  /**
   * Joins two texts and adds the special tokens. The library's post-processor only joins lists and inserts special tokens as
   * strings, so it gets ids instead of tokens, and the tokens that it inserts are looked up afterwards.
   */
  #join(
    first: number[],
    second: number[] | undefined,
    specialTokens: boolean,
  ): { ids: Int32Array; typeIds: Int32Array } {
    const plain = { tokens: first, tokens_pair: second, token_type_ids: undefined };
    // The library declares strings alone, though the post-processor takes items of any type.
    const postProcess = this.library.post_processor as unknown as PostProcessor | null;
    const joined = postProcess === null ? plain : postProcess(first, second ?? null, specialTokens);
    const pair = joined.tokens_pair ?? [];
    const types = [...(joined.token_type_ids ?? joined.tokens.map(() => 0)), ...pair.map(() => 1)];
    return {
      ids: Int32Array.from([...joined.tokens, ...pair], (token) => this.#specialId(token)),
      typeIds: this.files.pairTypes ? Int32Array.from(types) : new Int32Array(types.length),
    };
  }

  #specialId(token: string | number): number {
    if (typeof token === "number") return token;
    const id = this.idOf(token);
    if (id !== undefined) return id;
    throw new FileFormatError(
      `${this.where} adds the special token ${JSON.stringify(token)}, which is not in its vocabulary`,
      "add it to added_tokens, or correct the post_processor",
    );
  }
}

type Item = string | number;

type PostProcessor = (
  first: readonly Item[],
  second: readonly Item[] | null,
  specialTokens: boolean,
) => { readonly tokens: Item[]; readonly tokens_pair?: Item[] | null; readonly token_type_ids?: number[] };

function excerpt(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}...` : text);
}

/**
 * Numbers of tokens of two texts that are kept so that together they have at most `room`. As in Hugging Face's
 * "longest_first", the longer text is truncated first; if both are, they end equal, or the longer has one more.
 */
export function truncatedLengths(first: number, second: number, room: number): readonly [number, number] {
  if (first + second <= room) return [first, second];
  const shorter = Math.min(first, second, Math.floor(room / 2));
  return first <= second ? [shorter, room - shorter] : [room - shorter, shorter];
}

/** Turns errors of the library, which does not check its files, into a FileFormatError. */
function guarded<T>(where: string, action: () => T): T {
  try {
    return action();
  } catch (cause) {
    if (cause instanceof SafetapeError) throw cause;
    // The library throws Errors; a catch clause cannot say so.
    const fact = `${where} cannot be used: ${oneLine((cause as Error).message)}`;
    throw new FileFormatError(fact, "save the tokenizer again with the library that made it", { cause });
  }
}
