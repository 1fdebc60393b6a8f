import type { AddedToken } from "./added-tokens";
import { MessageError, readFields } from "./protobuf";
import type { Step } from "./step";
import { UnsupportedStep } from "./step";

/** Kinds of pieces in SentencePiece's format. */
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;
const UNIGRAM = 1;
const BPE = 2;

interface Piece {
  readonly text: string;
  readonly score: number;
  readonly kind: number;
}

/** What a .model file holds, as far as it is used. */
interface SentencePieceModel {
  readonly pieces: readonly Piece[];
  readonly algorithm: number;
  readonly byteFallback: boolean;
  /** Compiled replacements of characters; empty for none. */
  readonly replacements: Uint8Array;
  readonly addsPrefix: boolean;
  readonly removesSpaces: boolean;
}

/** What decides, besides the .model file, how a tokenizer works. */
export interface SentencePieceOptions {
  /** `tokenizer_class` of tokenizer_config.json, or what config.json's `model_type` implies. */
  readonly tokenizerClass: string | undefined;
  readonly config: Readonly<Record<string, unknown>>;
  /** Tokens that tokenizer_config.json or added_tokens.json adds, by id. */
  readonly added: ReadonlyMap<number, Omit<AddedToken, "id" | "normalized">>;
}

/**
 * The content of the tokenizer.json that a SentencePiece model stands for. There is no maintained library for browsers that reads
 * these files and says where tokens are, so the file is read here, and its steps are those of tokenizer.json.
 * @throws UnsupportedStep for a damaged file, and naming an algorithm or a tokenizer class that is not supported.
 */
export function fromSentencePiece(bytes: Uint8Array, options: SentencePieceOptions): Step {
  const model = readSentencePiece(bytes);
  const layout = layoutOf(model, options);
  const { pieces } = layout;
  const ids = new Map(pieces.map(({ text }, id) => [text, id]));
  const added = new Map<number, Omit<AddedToken, "id" | "normalized">>(options.added);
  const flags = { single_word: false, lstrip: false, rstrip: false };
  for (const [text, id] of layout.added(pieces.length))
    if (!added.has(id)) added.set(id, { ...flags, content: text, special: true });
  pieces.forEach(({ text, kind }, id) => {
    const isAdded = kind === UNKNOWN || kind === CONTROL || kind === USER_DEFINED;
    if (isAdded && !added.has(id)) added.set(id, { ...flags, content: text, special: kind !== USER_DEFINED });
  });
  return {
    ...stepsOf(model, layout),
    added_tokens: [...added].map(([id, token]) => ({ normalized: false, ...token, id })),
    post_processor: template(layout, (token) => ids.get(token) ?? idOf(added, token)),
    model: modelStep(model, pieces, ids),
  };
}

function idOf(added: SentencePieceOptions["added"], token: string): number {
  for (const [id, { content }] of added) if (content === token) return id;
  throw new UnsupportedStep(`the vocabulary has no token ${token}, which its tokenizer class adds`);
}

/** What a SentencePiece .model file holds. @throws UnsupportedStep for a damaged file. */
export function readSentencePiece(bytes: Uint8Array): SentencePieceModel {
  const pieces: Piece[] = [];
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  let [algorithm, byteFallback, addsPrefix, removesSpaces] = [UNIGRAM, false, true, true];
  let replacements = new Uint8Array();
  try {
    for (const { number, value } of readFields(bytes)) {
      if (!(value instanceof Uint8Array)) continue;
      const fields = new Map(
        [...readFields(number <= 3 ? value : new Uint8Array())].map((field) => [field.number, field.value]),
      );
      const numberOf = (key: number, defaultValue: number): number => {
        const field = fields.get(key) ?? defaultValue;
        return typeof field === "number" ? field : defaultValue;
      };
      if (number === 1) {
        const text = fields.get(1);
        if (!(text instanceof Uint8Array)) throw new MessageError(`piece ${pieces.length} has no text`);
        pieces.push({ text: decoder.decode(text), score: numberOf(2, 0), kind: numberOf(3, 1) });
      } else if (number === 2) {
        algorithm = numberOf(3, UNIGRAM);
        byteFallback = numberOf(35, 0) !== 0;
      } else if (number === 3) {
        const compiled = fields.get(2);
        if (compiled instanceof Uint8Array) replacements = new Uint8Array(compiled);
        addsPrefix = numberOf(3, 1) !== 0;
        removesSpaces = numberOf(4, 1) !== 0;
      }
    }
  } catch (cause) {
    if (!(cause instanceof MessageError)) throw cause;
    throw new UnsupportedStep(`it is no model of SentencePiece: ${cause.message}`);
  }
  if (pieces.length === 0) throw new UnsupportedStep("it is no model of SentencePiece: it has no pieces");
  if (algorithm !== UNIGRAM && algorithm !== BPE) {
    throw new UnsupportedStep(
      `SentencePiece's algorithm ${algorithm} is not supported, but Unigram (1) and BPE (2) are`,
    );
  }
  return { pieces, algorithm, byteFallback, replacements, addsPrefix, removesSpaces };
}

/** What a class of transformers makes of a model: the order of its pieces, more tokens, and the tokens around texts. */
interface Layout {
  readonly pieces: readonly Piece[];
  /** Tokens after the pieces, of which there are `count`, with their ids. */
  added(count: number): readonly (readonly [text: string, id: number])[];
  /** A text ($A) and the tokens around it. */
  readonly single: readonly string[];
  /** What follows it where there is a second text ($B), and its type. */
  readonly second: readonly string[];
  readonly secondType: 0 | 1;
  /** Whether all white space divides words, as in published files of T5 and XLM-RoBERTa, or spaces alone. */
  readonly splitsWhiteSpace?: boolean;
}

const none = (): [] => [];

function layoutOf({ pieces }: SentencePieceModel, { tokenizerClass, config }: SentencePieceOptions): Layout {
  const isOn = (key: string, defaultValue: boolean): boolean => (config[key] ?? defaultValue) === true;
  switch (tokenizerClass?.replace(/Fast$/, "")) {
    case "LlamaTokenizer":
    case "GemmaTokenizer": {
      const controls = pieces.flatMap(({ text, kind }) => (kind === CONTROL ? [text] : []));
      const [bos, eos] = [textOf(config["bos_token"]), textOf(config["eos_token"])];
      const begin = isOn("add_bos_token", true)
        ? [bos ?? controls.find((text) => /^<(?:s|bos)>$/.test(text)) ?? "<s>"]
        : [];
      const end = isOn("add_eos_token", false)
        ? [eos ?? controls.find((text) => /^<(?:\/s|eos)>$/.test(text)) ?? "</s>"]
        : [];
      const around = (text: string): string[] => [...begin, text, ...end];
      return { pieces, added: none, single: around("$A"), second: around("$B"), secondType: 1 };
    }
    case "T5Tokenizer": {
      const extra = typeof config["extra_ids"] === "number" ? config["extra_ids"] : 100;
      const added = (count: number) =>
        Array.from({ length: Math.min(extra, 1000) }, (_, i) => [`<extra_id_${extra - 1 - i}>`, count + i] as const);
      return {
        pieces,
        added,
        single: ["$A", "</s>"],
        second: ["$B", "</s>"],
        secondType: 0,
        splitsWhiteSpace: true,
      };
    }
    case "DebertaV2Tokenizer": {
      const added = (count: number) => [["[MASK]", count] as const];
      return { pieces, added, single: ["[CLS]", "$A", "[SEP]"], second: ["$B", "[SEP]"], secondType: 1 };
    }
    case "XLMRobertaTokenizer": {
      // fairseq's order, which is not SentencePiece's.
      const specials = ["<s>", "<pad>", "</s>", "<unk>"].map((text) => ({
        text,
        score: 0,
        kind: text === "<unk>" ? UNKNOWN : CONTROL,
      }));
      const added = (count: number) => [["<mask>", count] as const];
      return {
        pieces: [...specials, ...pieces.slice(3)],
        added,
        single: ["<s>", "$A", "</s>"],
        second: ["</s>", "$B", "</s>"],
        secondType: 0,
        splitsWhiteSpace: true,
      };
    }
    default:
      throw new UnsupportedStep(
        `a SentencePiece model of the tokenizer class ${String(tokenizerClass).slice(0, 60)} is not supported without a tokenizer.json`,
      );
  }
}

function textOf(token: unknown): string | undefined {
  if (typeof token === "string") return token;
  const content: unknown =
    token !== null && typeof token === "object" && "content" in token ? token.content : undefined;
  return typeof content === "string" ? content : undefined;
}

function template({ single, second, secondType }: Layout, idOfToken: (token: string) => number): Step {
  const special: Record<string, { readonly ids: readonly number[] }> = {};
  const parts = (tokens: readonly string[], type: number) =>
    tokens.map((token) => {
      if (token.startsWith("$")) return { Sequence: { id: token.slice(1), type_id: type } };
      special[token] ??= { ids: [idOfToken(token)] };
      return { SpecialToken: { id: token, type_id: type } };
    });
  const first = parts(single, 0);
  const pair = [...first, ...parts(second, secondType)];
  return { type: "TemplateProcessing", single: first, pair, special_tokens: special };
}

/** The normalizer, pre-tokenizer and decoder. */
function stepsOf(
  { algorithm, replacements, addsPrefix, removesSpaces }: SentencePieceModel,
  { splitsWhiteSpace = false }: Layout,
): Step {
  const compiled =
    replacements.length === 0 ? [] : [{ type: "Precompiled", precompiled_charsmap: encodeBase64(replacements) }];
  const spaces = { type: "Replace", pattern: { String: " " }, content: "\u2581" };
  if (algorithm === BPE) {
    const prefix = addsPrefix ? [{ type: "Prepend", prepend: "\u2581" }] : [];
    const strip = addsPrefix ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : [];
    const decoders = [
      { ...spaces, pattern: { String: "\u2581" }, content: " " },
      { type: "ByteFallback" },
      { type: "Fuse" },
      ...strip,
    ];
    return {
      normalizer: { type: "Sequence", normalizers: [...compiled, ...prefix, spaces] },
      pre_tokenizer: null,
      decoder: { type: "Sequence", decoders },
    };
  }
  const metaspace = { type: "Metaspace", replacement: "\u2581", prepend_scheme: addsPrefix ? "always" : "never" };
  const splits = removesSpaces && splitsWhiteSpace;
  const fewerSpaces = { type: "Replace", pattern: { Regex: " {2,}" }, content: " " };
  const normalizers = removesSpaces && !splits ? [{ type: "Strip" }, ...compiled, fewerSpaces] : compiled;
  const pretokenizers = splits ? [{ type: "WhitespaceSplit" }, metaspace] : [metaspace];
  return {
    normalizer: { type: "Sequence", normalizers },
    pre_tokenizer: { type: "Sequence", pretokenizers },
    decoder: metaspace,
  };
}

function modelStep(
  { algorithm, byteFallback }: SentencePieceModel,
  pieces: readonly Piece[],
  ids: ReadonlyMap<string, number>,
): Step {
  const unknown = pieces.findIndex(({ kind }) => kind === UNKNOWN);
  if (algorithm === UNIGRAM) {
    const vocab = pieces.map(({ text, score }) => [text, score]);
    return { type: "Unigram", vocab, unk_id: unknown < 0 ? null : unknown, byte_fallback: byteFallback };
  }
  return {
    type: "BPE",
    vocab: Object.fromEntries(ids),
    merges: mergesOf(pieces, ids),
    unk_token: pieces[unknown]?.text ?? null,
    fuse_unk: true,
    byte_fallback: byteFallback,
  };
}

/** Every way to join two pieces to a third, the likeliest pieces first, as transformers derives them. */
function mergesOf(pieces: readonly Piece[], ids: ReadonlyMap<string, number>): (readonly [string, string])[] {
  const lengthOf = (text: string): number => [...text].length;
  const merges = pieces.flatMap(({ text, score }) => {
    const ways: Way[] = [];
    for (let at = 1; at < text.length; at++) {
      const [left, right] = [text.slice(0, at), text.slice(at)];
      if (!ids.has(left) || !ids.has(right)) continue;
      ways.push({ left, right, score, lengths: [lengthOf(left), lengthOf(right)] });
    }
    return ways.sort((a, b) => ids.get(a.left)! - ids.get(b.left)! || ids.get(a.right)! - ids.get(b.right)!);
  });
  merges.sort((a, b) => b.score - a.score || b.lengths[0] - a.lengths[0] || b.lengths[1] - a.lengths[1]);
  return merges.map(({ left, right }) => [left, right]);
}

/** A way to make a piece of two others. Lengths count code points. */
interface Way {
  readonly left: string;
  readonly right: string;
  readonly score: number;
  readonly lengths: readonly [number, number];
}

function encodeBase64(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}
