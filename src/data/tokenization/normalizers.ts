import type { AlignedText } from "./aligned-text";
import type { Change } from "./aligned-text";
import { isWhiteSpace, patternOf } from "./patterns";
import { precompiled } from "./precompiled";
import { innerSteps, option, unsupported } from "./step";
import type { Step } from "./step";
import { byteCharacters } from "./byte-alphabet";

/** Changes a text before it is split. */
export type Normalizer = (text: AlignedText) => AlignedText;

/** The normalizer of tokenizer.json. @throws UnsupportedStep naming what is not supported. */
export function makeNormalizer(step: Step): Normalizer {
  switch (step["type"]) {
    case "Sequence": {
      const inner = innerSteps(step, "normalizers").map(makeNormalizer);
      return (text) => inner.reduce((changed, normalize) => normalize(changed), text);
    }
    case "BertNormalizer":
      return bertNormalizer(step);
    case "NFC":
    case "NFD":
    case "NFKC":
    case "NFKD": {
      const form = step["type"];
      return (text) => unicodeForm(text, form);
    }
    case "Lowercase":
      return (text) => text.map((character) => character.toLowerCase());
    case "StripAccents":
      // Rust calls every mark an accent here, and only non-spacing ones in BertNormalizer.
      return (text) => text.map((character) => (/^\p{M}$/u.test(character) ? "" : character));
    case "Strip":
      return strip(option(step, "strip_left", "boolean", true), option(step, "strip_right", "boolean", true));
    case "Prepend": {
      const prefix = option(step, "prepend", "string", "");
      return (text) => text.prepend(prefix);
    }
    case "Replace": {
      const pattern = patternOf(step);
      const content = option(step, "content", "string", "");
      return (text) => text.replace(pattern(text.text), content);
    }
    case "Precompiled":
      return precompiled(option(step, "precompiled_charsmap", "string", ""));
    case "Nmt":
      return (text) => text.map(nmt);
    case "ByteLevel":
      return (text) => text.map(byteCharacters);
    default:
      throw unsupported("normalizer", step);
  }
}

function bertNormalizer(step: Step): Normalizer {
  const cleans = option(step, "clean_text", "boolean", true);
  const separatesChinese = option(step, "handle_chinese_chars", "boolean", true);
  const lowers = option(step, "lowercase", "boolean", true);
  const stripsAccents = option(step, "strip_accents", "boolean", lowers);
  return (original) => {
    let text = original;
    if (cleans) text = text.map(cleaned);
    if (separatesChinese) text = text.map((character) => (isChinese(character) ? ` ${character} ` : character));
    if (stripsAccents) {
      text = unicodeForm(text, "NFD").map((character) => (/^\p{Mn}$/u.test(character) ? "" : character));
    }
    return lowers ? text.map((character) => character.toLowerCase()) : text;
  };
}

function cleaned(character: string): string {
  if (/^[\t\n\r]$/.test(character)) return " ";
  if (/^[\0\uFFFD\p{Cc}\p{Cf}\p{Co}]$/u.test(character)) return "";
  return isWhiteSpace(character) ? " " : character;
}

/** The blocks of CJK ideographs that BERT splits into characters. */
const CHINESE: readonly (readonly [number, number])[] = [
  [0x4e00, 0x9fff],
  [0x3400, 0x4dbf],
  [0x20000, 0x2a6df],
  [0x2a700, 0x2b73f],
  [0x2b740, 0x2b81f],
  [0x2b920, 0x2ceaf],
  [0xf900, 0xfaff],
  [0x2f800, 0x2fa1f],
];

function isChinese(character: string): boolean {
  const code = character.codePointAt(0)!;
  return code >= 0x3400 && CHINESE.some(([first, last]) => code >= first && code <= last);
}

/** SentencePiece's nmt rule: control characters are removed, and unusual white space becomes a space. */
function nmt(character: string): string {
  const code = character.codePointAt(0)!;
  const isRemoved =
    (code >= 1 && code <= 8) ||
    code === 0xb ||
    (code >= 0xe && code <= 0x1f) ||
    code === 0x7f ||
    code === 0x8f ||
    code === 0x9f;
  if (isRemoved) return "";
  return /^[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]$/u.test(character) ? " " : character;
}

function strip(left: boolean, right: boolean): Normalizer {
  return (text) => {
    let [from, to] = [0, text.length];
    const characters = [...text.text];
    if (left) for (let i = 0; from < to && isWhiteSpace(characters[i]!); i++) from++;
    if (right) for (let i = characters.length - 1; to > from && isWhiteSpace(characters[i]!); i--) to--;
    return text.slice(from, to);
  };
}

type Form = "NFC" | "NFD" | "NFKC" | "NFKD";

/** What may combine with a character before it: marks, Hangul's vowels and finals, half-width forms of both. */
const COMBINING = /^[\p{M}\u1160-\u11ff\uff9e-\uffdc]$/u;

function unicodeForm(aligned: AlignedText, form: Form): AlignedText {
  const { text } = aligned;
  if (text.normalize(form) === text) return aligned;
  const changes: Change[] = [];
  let segment: string[] = [];
  const flush = (): void => {
    for (const change of normalizedSegment(segment, form)) changes.push(change);
    segment = [];
  };
  for (const character of text) {
    if (!COMBINING.test(character)) flush();
    segment.push(character);
  }
  flush();
  return aligned.change(changes);
}

/**
 * The characters of a segment in a Unicode form. A character that several are composed of takes the place of the first of
 * them, and of those that one is decomposed into, the first takes its place.
 */
function normalizedSegment(segment: readonly string[], form: Form): Change[] {
  const decomposed = form === "NFC" || form === "NFD" ? "NFD" : "NFKD";
  const parts = segment.flatMap((character) =>
    [...character.normalize(decomposed)].map((part, i) => ({ part, change: i === 0 ? 0 : 1, isUsed: false })),
  );
  return Array.from(segment.join("").normalize(form), (character) => {
    let change = 1;
    for (const part of character.normalize(decomposed)) {
      const found = parts.find((candidate) => !candidate.isUsed && candidate.part === part);
      if (found) found.isUsed = true;
      change += (found?.change ?? 1) - 1;
    }
    return [character, change] as const;
  });
}
