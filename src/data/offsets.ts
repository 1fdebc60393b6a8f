import { DataError } from "../base/errors";

/** [start, end) in UTF-16 units of a text. */
export type Span = readonly [start: number, end: number];

/** How a vocabulary spells a text, by its tokenizer.json. */
export type Spelling =
  /** GPT-2's: every character of a token is a byte. */
  | "bytes"
  /** LLaMA-2's: a block for a space, `<0x0A>` for a byte. */
  | "metaspace"
  /** BERT's: words cleaned of accents and case, `##` before what goes on. */
  | "wordpiece";

/**
 * Where in a text each of its tokens stands; a space before a word is no part of it. `unknown` is the token that stands for
 * any word. Throws DataError where tokens and text do not agree, as after a normalisation that this does not know.
 */
export function tokenSpans(text: string, tokens: readonly string[], spelling: Spelling, unknown?: string): Span[] {
  return spelling === "wordpiece" ? wordpieceSpans(text, tokens, unknown) : byteSpans(text, tokens, spelling);
}

function byteSpans(text: string, tokens: readonly string[], spelling: "bytes" | "metaspace"): Span[] {
  const wanted = new TextEncoder().encode(text);
  const units = unitsOfBytes(text);
  const bytesOf = spelling === "bytes" ? byteLevelBytes : metaspaceBytes;
  let at = 0;
  return tokens.map((token, i) => {
    let bytes = bytesOf(token);
    // Some vocabularies put a space before a text that has none.
    if (i === 0 && bytes[0] === SPACE && wanted[0] !== SPACE) bytes = bytes.slice(1);
    const start = at;
    if (!bytes.every((byte, j) => byte === wanted[start + j])) throw astray(token, text, units[at]?.[0] ?? text.length);
    at += bytes.length;
    if (bytes.length === 0) return [units[at]?.[0] ?? text.length, units[at]?.[0] ?? text.length] as const;
    return trimmed(text, [units[start]![0], units[at - 1]![1]]);
  });
}

const SPACE = 0x20;

/** Of each UTF-8 byte of a text, the units of its character. */
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

/** Without white space around, unless there is nothing else. */
function trimmed(text: string, [start, end]: Span): Span {
  const own = text.slice(start, end);
  if (own.trim() === "") return [start, end];
  return [start + (own.length - own.trimStart().length), end - (own.length - own.trimEnd().length)];
}

/** GPT-2's alphabet: bytes that print stand for themselves, the others for characters from U+0100 on, in order. */
const BYTES: ReadonlyMap<string, number> = (() => {
  const prints = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  let next = 0x100;
  return new Map(
    Array.from({ length: 256 }, (_, byte) => [String.fromCodePoint(prints(byte) ? byte : next++), byte] as const),
  );
})();

/** A character outside the alphabet belongs to an added token, which stands as it is. */
function byteLevelBytes(token: string): number[] {
  const bytes = [...token].map((character) => BYTES.get(character));
  return bytes.every((byte) => byte !== undefined) ? bytes : [...new TextEncoder().encode(token)];
}

function metaspaceBytes(token: string): number[] {
  const [, byte] = /^<0x([0-9A-Fa-f]{2})>$/.exec(token) ?? [];
  if (byte !== undefined) return [Number.parseInt(byte, 16)];
  return [...new TextEncoder().encode(token.replaceAll("\u2581", " "))];
}

/** A character as BERT's normaliser leaves it, and where it came from. */
interface Mark {
  readonly character: string;
  readonly span: Span;
  /** First of a word: behind white space, or punctuation, or such a character itself. */
  readonly opens: boolean;
}

function wordpieceSpans(text: string, tokens: readonly string[], unknown: string | undefined): Span[] {
  const marks = normalisedMarks(text);
  let at = 0;
  return tokens.map((token) => {
    const first = at;
    if (token === unknown) {
      do at++;
      while (at < marks.length && !marks[at]!.opens);
    } else {
      for (const character of fold(token.startsWith("##") ? token.slice(2) : token)) {
        if (marks[at]?.character !== character) throw astray(token, text, marks[at]?.span[0] ?? text.length);
        at++;
      }
    }
    const [from, to] = [marks[first], marks[Math.min(at, marks.length) - 1]];
    if (!from || !to) throw astray(token, text, text.length);
    return [from.span[0], to.span[1]] as const;
  });
}

/** Case and accents play no part here: a vocabulary may have them or not. */
const fold = (text: string): string =>
  text
    .toLowerCase()
    .normalize("NFD")
    .replace(/\p{Mn}/gu, "");

function normalisedMarks(text: string): Mark[] {
  const marks: Mark[] = [];
  let unit = 0;
  let opens = true;
  for (const character of text) {
    const span = [unit, unit + character.length] as const;
    unit += character.length;
    if (/^\s$/u.test(character)) opens = true;
    if (/^[\s\p{Cc}\p{Cf}\p{Co}\uFFFD]$/u.test(character)) continue;
    const alone = isPunctuation(character) || /^\p{Script=Han}$/u.test(character);
    [...fold(character)].forEach((own, i) => marks.push({ character: own, span, opens: i === 0 && (opens || alone) }));
    opens = alone || (opens && fold(character) === "");
  }
  return marks;
}

/** BERT counts every character of ASCII that is no letter, digit or space. */
const isPunctuation = (character: string): boolean => /^[\p{P}$+<=>^`|~]$/u.test(character);

function astray(token: string, text: string, at: number): DataError {
  return new DataError(
    `the token ${JSON.stringify(token)} is not at ${at} of ${JSON.stringify(text.slice(Math.max(0, at - 20), at + 20))}`,
    "this tokenizer changes texts in a way that hides where its tokens stand; use another one",
  );
}
