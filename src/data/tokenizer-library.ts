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
import { truncatedLengths } from "./truncate";

/** `loadTokenizer`, with the library that it stands on. */
export async function openTokenizer(directory: Directory): Promise<Tokenizer> {
  const files = await readTokenizerFiles(directory);
  const where = `tokenizer.json in ${directory.name}`;
  const library = guarded(where, () => {
    // Built without words first: with them, the library runs its patterns on the words that were added.
    checkPatterns(new Library({ ...files.tokenizer, ...NO_WORDS }, {}), where);
    return new Library(files.tokenizer, files.config);
  });
  return new LoadedTokenizer(library, files, where);
}

const NO_WORDS = { added_tokens: [], model: { type: "WordPiece", vocab: {}, unk_token: "" } };

/** @throws FileFormatError for a regular expression that could take for ever. */
function checkPatterns({ normalizer, pre_tokenizer, decoder }: Library, where: string): void {
  for (const { source } of patternsIn([normalizer, pre_tokenizer, decoder])) {
    const fault = patternFault(source);
    if (fault === undefined) continue;
    throw new FileFormatError(
      `${where} has the pattern ${excerpt(oneLine(source))}, which may take for ever: ${fault}`,
      "write the pattern without repeats within repeats",
    );
  }
}

/** The regular expressions that the library made, as JavaScript runs them. Its steps are functions with properties. */
function patternsIn(roots: readonly unknown[]): RegExp[] {
  const [found, open, seen] = [[] as RegExp[], [...roots], new Set<unknown>()];
  while (open.length > 0) {
    const next = open.pop();
    if (next === null || (typeof next !== "object" && typeof next !== "function") || seen.has(next)) continue;
    seen.add(next);
    if (next instanceof RegExp) found.push(next);
    else
      open.push(
        ...Object.entries(next).flatMap(([key, value]: [string, unknown]) => (key === "config" ? [] : [value])),
      );
  }
  return found;
}

class LoadedTokenizer implements Tokenizer {
  readonly modelMaxLength: number | undefined;
  readonly vocabularySize: number;

  constructor(
    private readonly library: Library,
    private readonly files: TokenizerFiles,
    private readonly where: string,
  ) {
    this.vocabularySize = files.vocabularySize;
    const limit = files.config.model_max_length;
    // Python writes 1e30 where there is no limit.
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
      const [keep, keepPair] = this.#lengths(first, second, special, options, text);
      const cut = second?.slice(0, keepPair);
      const joined = this.#join(first.slice(0, keep), cut, specialTokens);
      return { ...joined, removed: total + special - joined.ids.length };
    });
  }

  locate(text: string): { readonly ids: readonly number[]; readonly spans: readonly Span[] } {
    const { tokens } = guarded(this.where, () => this.library.encode(text, { add_special_tokens: false }));
    const ids = guarded(this.where, () => this.#ids(text));
    const { spelling, unknown } = this.files;
    return { ids, spans: tokenSpans(text, tokens, spelling, unknown) };
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
    const bad = ids.findIndex((id: unknown) => !Number.isSafeInteger(id) || (id as number) < 0);
    if (bad >= 0) {
      throw new DataError(
        `the tokenizer has no id for ${JSON.stringify(tokens[bad] ?? "a token")} in ${excerpt(text)}`,
        "add an unknown token ([UNK]) to the vocabulary, or the missing one",
      );
    }
    return ids;
  }

  /**
   * Adds the special tokens. The post-processor only joins lists and inserts special tokens as strings, so it is given
   * ids in place of tokens, and those that it inserts are looked up after.
   */
  #join(
    first: number[],
    second: number[] | undefined,
    specialTokens: boolean,
  ): { ids: Int32Array; typeIds: Int32Array } {
    const plain = { tokens: first, tokens_pair: second, token_type_ids: undefined };
    const post = this.library.post_processor as unknown as PostProcessor | null;
    const done = post === null ? plain : post(first, second ?? null, specialTokens);
    const rest = done.tokens_pair ?? [];
    const types = [...(done.token_type_ids ?? done.tokens.map(() => 0)), ...rest.map(() => 1)];
    return {
      ids: Int32Array.from([...done.tokens, ...rest], (token) => this.#specialId(token)),
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

/** The library trusts its files: what it trips over is a fault of theirs. */
function guarded<T>(where: string, action: () => T): T {
  try {
    return action();
  } catch (cause) {
    if (cause instanceof SafetapeError) throw cause;
    throw new FileFormatError(
      `${where} cannot be used: ${oneLine((cause as Error).message)}`,
      "save the tokenizer again with the library that made it",
      { cause },
    );
  }
}
