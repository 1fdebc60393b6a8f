import { DataError } from "../base/errors";

/** A range [start, end) of a text, in UTF-16 units. */
export type Span = readonly [start: number, end: number];

/** How the tokens of a vocabulary spell a text. */
export type Spelling =
  /** As in GPT-2: every character of a token stands for a byte. */
  | "bytes"
  /** As in LLaMA 2: U+2581 stands for a space, `<0x0A>` for a byte. */
  | "metaspace"
  /** As in BERT: words without accents and case, with `##` before tokens that continue a word. */
  | "wordpiece";

/**
 * The span of each token in a text, without white space around it.
 * @param unknown the token that stands for any word.
 * @throws DataError if the tokens do not spell the text, for example after a normalisation that is not supported here.
 */
export function tokenSpans(text: string, tokens: readonly string[], spelling: Spelling, unknown?: string): Span[] {
  return spelling === "wordpiece" ? wordpieceSpans(text, tokens, unknown) : byteSpans(text, tokens, spelling);
}

function byteSpans(text: string, tokens: readonly string[], spelling: "bytes" | "metaspace"): Span[] {
  const textBytes = new TextEncoder().encode(text);
  const units = unitsOfBytes(text);
  const bytesOf = spelling === "bytes" ? byteLevelBytes : metaspaceBytes;
  let offset = 0;
  return tokens.map((token, i) => {
    let bytes = bytesOf(token);
    // Some tokenizers add a space before the text.
    if (i === 0 && bytes[0] === SPACE && textBytes[0] !== SPACE) bytes = bytes.slice(1);
    const start = offset;
    const startUnit = units[start]?.[0] ?? text.length;
    if (!bytes.every((byte, j) => byte === textBytes[start + j])) throw notFoundAt(token, text, startUnit);
    offset += bytes.length;
    if (bytes.length === 0) return [startUnit, startUnit] as const;
    return trimmed(text, [startUnit, units[offset - 1]![1]]);
  });
}

const SPACE = 0x20;

/** For each UTF-8 byte of a text, the span of its character. */
function unitsOfBytes(text: string): Span[] {
  const units: Span[] = [];
  let unit = 0;
  for (const character of text) {
    const span = [unit, unit + character.length] as const;
    const code = character.codePointAt(0)!;
    const bytes = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (let i = 0; i < bytes; i++) units.push(span);
    unit += character.length;
  }
  return units;
}

/** A span without the white space at its ends, unless it is all white space. */
function trimmed(text: string, [start, end]: Span): Span {
  const spanned = text.slice(start, end);
  if (spanned.trim() === "") return [start, end];
  return [start + (spanned.length - spanned.trimStart().length), end - (spanned.length - spanned.trimEnd().length)];
}

/** GPT-2's alphabet: printable bytes are their own characters; the others have the characters from U+0100 on, in order. */
const BYTES: ReadonlyMap<string, number> = (() => {
  const isPrintable = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  let next = 0x100;
  return new Map(
    Array.from({ length: 256 }, (_, byte) => [String.fromCodePoint(isPrintable(byte) ? byte : next++), byte] as const),
  );
})();

/** Bytes of a token. One with a character outside the alphabet is an added token, which spells itself. */
function byteLevelBytes(token: string): number[] {
  const bytes = [...token].map((character) => BYTES.get(character));
  return bytes.every((byte) => byte !== undefined) ? bytes : [...new TextEncoder().encode(token)];
}

function metaspaceBytes(token: string): number[] {
  const [, byte] = /^<0x([0-9A-Fa-f]{2})>$/.exec(token) ?? [];
  if (byte !== undefined) return [Number.parseInt(byte, 16)];
  return [...new TextEncoder().encode(token.replaceAll("\u2581", " "))];
}

/** A character after BERT's normalisation. */
interface NormalisedCharacter {
  readonly character: string;
  /** Span of the original character. */
  readonly span: Span;
  /** Whether it starts a word: it follows white space or punctuation, or is punctuation itself. */
  readonly startsWord: boolean;
}

function wordpieceSpans(text: string, tokens: readonly string[], unknown: string | undefined): Span[] {
  const characters = normalise(text);
  let next = 0;
  return tokens.map((token) => {
    const first = next;
    if (token === unknown) {
      do next++;
      while (next < characters.length && !characters[next]!.startsWord);
    } else {
      for (const character of fold(token.startsWith("##") ? token.slice(2) : token)) {
        const actual = characters[next];
        if (actual?.character !== character) throw notFoundAt(token, text, actual?.span[0] ?? text.length);
        next++;
      }
    }
    const [from, to] = [characters[first], characters[Math.min(next, characters.length) - 1]];
    if (!from || !to) throw notFoundAt(token, text, text.length);
    return [from.span[0], to.span[1]] as const;
  });
}

/** Removes case and accents, with which a vocabulary may spell words or not. */
const fold = (text: string): string =>
  text
    .toLowerCase()
    .normalize("NFD")
    .replace(/\p{Mn}/gu, "");

function normalise(text: string): NormalisedCharacter[] {
  const characters: NormalisedCharacter[] = [];
  let unit = 0;
  let startsWord = true;
  for (const character of text) {
    const span = [unit, unit + character.length] as const;
    unit += character.length;
    if (/^\s$/u.test(character)) startsWord = true;
    if (/^[\s\p{Cc}\p{Cf}\p{Co}\uFFFD]$/u.test(character)) continue;
    const isWord = isPunctuation(character) || /^\p{Script=Han}$/u.test(character);
    [...fold(character)].forEach((folded, i) => {
      characters.push({ character: folded, span, startsWord: i === 0 && (startsWord || isWord) });
    });
    startsWord = isWord || (startsWord && fold(character) === "");
  }
  return characters;
}

/** BERT also counts as punctuation every ASCII character that is not a letter, a digit or a space. */
const isPunctuation = (character: string): boolean => /^[\p{P}$+<=>^`|~]$/u.test(character);

function notFoundAt(token: string, text: string, unit: number): DataError {
  const excerpt = text.slice(Math.max(0, unit - 20), unit + 20);
  return new DataError(
    `the token ${JSON.stringify(token)} is not at ${unit} of ${JSON.stringify(excerpt)}`,
    "this tokenizer changes texts in a way that hides the positions of its tokens; use another one",
  );
}
