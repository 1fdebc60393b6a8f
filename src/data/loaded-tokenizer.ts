import { DataError } from "../base/errors";
import type { Directory } from "../io/directory";
import { withoutSpace } from "./offsets";
import type { Span } from "./offsets";
import { AddedTokens } from "./tokenization/added-tokens";
import { makeDecoder } from "./tokenization/decoders";
import type { Decoder } from "./tokenization/decoders";
import { makeModel } from "./tokenization/model";
import { makeNormalizer } from "./tokenization/normalizers";
import { makePostProcessor } from "./tokenization/post-processors";
import type { PostProcessor, Token } from "./tokenization/post-processors";
import { makePreTokenizer } from "./tokenization/pre-tokenizers";
import type { PreTokenizer } from "./tokenization/pre-tokenizers";
import { UnsupportedStep } from "./tokenization/step";
import { UnknownWordError } from "./tokenization/vocabulary";
import type { Model } from "./tokenization/vocabulary";
import type { EncodeOptions, Encoded, SpecialRole, Tokenizer } from "./tokenizer";
import { contentOf, readTokenizerFiles, usable } from "./tokenizer-file";
import type { TokenizerFiles } from "./tokenizer-file";

/** Loads a tokenizer as `loadTokenizer` does. This module imports the tokenizer library. */
export async function openTokenizer(directory: Directory): Promise<Tokenizer> {
  const files = await readTokenizerFiles(directory);
  return usable(files.where, () => new LoadedTokenizer(files));
}

/** The steps that Hugging Face's tokenizers take, with the positions that they give. */
class LoadedTokenizer implements Tokenizer {
  readonly modelMaxLength: number | undefined;
  readonly vocabularySize: number;
  readonly beginIds: readonly number[];
  readonly endIds: readonly number[];
  /** Ids of words: few of a language's words are most of a text. */
  readonly #words = new Map<string, readonly number[]>();
  readonly #added: AddedTokens;
  readonly #split: PreTokenizer;
  readonly #model: Model;
  readonly #postProcessor: PostProcessor;
  readonly #decode: Decoder;

  constructor(private readonly files: TokenizerFiles) {
    const { steps, vocabulary, tokens, addedTokens, config } = files;
    this.vocabularySize = files.vocabularySize;
    const limit = config.model_max_length;
    // Python writes 1e30 for no limit.
    this.modelMaxLength = typeof limit === "number" && limit >= 1 && limit < 2 ** 31 ? Math.floor(limit) : undefined;
    this.#added = new AddedTokens(addedTokens, steps.normalizer ? makeNormalizer(steps.normalizer) : (text) => text);
    this.#split = steps.preTokenizer ? makePreTokenizer(steps.preTokenizer) : (text) => [text];
    this.#model = makeModel(steps.model, vocabulary);
    this.#decode = steps.decoder ? makeDecoder(steps.decoder) : (spellings) => [spellings.join(" ")];
    this.#postProcessor = makePostProcessor(steps.postProcessor, (id) => tokens.get(id));
    for (const { id } of [[[]], [[], []]].flatMap((texts) => this.#postProcessor.join(texts, true))) {
      if (!tokens.has(id))
        throw new UnsupportedStep(`the post-processor adds the id ${id}, which is not in its vocabulary`);
    }
    const text: Token = { id: 0, span: [0, 0], typeId: 0, source: 0 };
    const framed = this.#postProcessor.join([[text]], true);
    this.beginIds = framed
      .slice(
        0,
        Math.max(
          0,
          framed.findIndex(({ source }) => source === 0),
        ),
      )
      .map(({ id }) => id);
    const end = this.specialId("eos");
    const isEnd = end !== undefined && (files.endIds.length === 0 || files.endIds.includes(end));
    this.endIds = [...(isEnd ? [end] : []), ...files.endIds.filter((id) => id !== end)];
  }

  specialId(role: SpecialRole): number | undefined {
    const content = contentOf(this.files.config[`${role}_token`]);
    return content === undefined ? undefined : this.idOf(content);
  }

  idOf(token: string): number | undefined {
    const { addedTokens, vocabulary } = this.files;
    return addedTokens.find(({ content }) => content === token)?.id ?? vocabulary.get(token);
  }

  encode(text: string, pair?: string, options: EncodeOptions = {}): Encoded {
    const { specialTokens = true } = options;
    const first = this.#tokens(text, 0);
    const second = pair === undefined ? undefined : this.#tokens(pair, 1);
    const total = first.length + (second?.length ?? 0);
    const special = specialTokens ? this.#postProcessor.count(second !== undefined) : 0;
    const [firstLength, secondLength] = this.#lengths(first, second, special, options, text);
    const kept = [first.slice(0, firstLength), ...(second ? [second.slice(0, secondLength)] : [])];
    const joined = this.#postProcessor.join(kept, specialTokens);
    return {
      ids: Int32Array.from(joined, ({ id }) => id),
      typeIds: Int32Array.from(joined, ({ typeId }) => typeId),
      spans: joined.map(({ span }) => span),
      sources: joined.map(({ source }) => source),
      removed: total + special - joined.length,
    };
  }

  locate(text: string): { readonly ids: readonly number[]; readonly spans: readonly Span[] } {
    const tokens = this.#tokens(text, 0);
    return { ids: tokens.map(({ id }) => id), spans: tokens.map(({ span }) => withoutSpace(text, span)) };
  }

  wordIds(word: string): readonly number[] {
    const cached = this.#words.get(word);
    if (cached) return cached;
    const needsSpace = this.files.isByteLevel && !word.startsWith(" ");
    const ids = this.#tokens(needsSpace ? ` ${word}` : word, 0).map(({ id }) => id);
    this.#words.set(word, ids);
    return ids;
  }

  decode(ids: Iterable<number>, { keepSpecial = false }: { readonly keepSpecial?: boolean } = {}): string {
    const { tokens, specialIds } = this.files;
    const spellings: string[] = [];
    for (const id of ids) {
      const spelling = tokens.get(id);
      if (spelling === undefined) {
        throw new DataError(`no token has the id ${id}`, `ids of this tokenizer are below ${this.vocabularySize}`);
      }
      if (keepSpecial || !specialIds.has(id)) spellings.push(spelling);
    }
    return this.#decode(spellings).join("");
  }

  /** Numbers of tokens of both texts that fit. @param special number of special tokens. */
  #lengths(
    first: readonly Token[],
    second: readonly Token[] | undefined,
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

  /** Tokens of one text, without special tokens. */
  #tokens(text: string, source: 0 | 1): Token[] {
    const tokens: Token[] = [];
    try {
      for (const { text: part, id: addedId } of this.#added.sections(text)) {
        const { length } = part;
        if (addedId !== undefined) {
          tokens.push({ id: addedId, span: part.spanOf(0, length), typeId: source, source, spelling: part.text });
          continue;
        }
        for (const word of length > 0 ? this.#split(part) : []) {
          for (const { id, from, to } of this.#model(word.text)) {
            tokens.push({ id, span: word.spanOf(from, to), typeId: source, source });
          }
        }
      }
    } catch (cause) {
      if (!(cause instanceof UnknownWordError)) throw cause;
      throw new DataError(
        `the tokenizer has no id for ${JSON.stringify(cause.token)} in ${excerpt(text)}`,
        "add an unknown token ([UNK]) to the vocabulary, or the missing one",
        { cause },
      );
    }
    return tokens;
  }
}

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
