import type { AlignedText } from "./aligned-text";
import { byteCharacters } from "./byte-alphabet";
import { literal, matchesOf, patternOf } from "./patterns";
import type { Matcher } from "./patterns";
import { innerSteps, nameOf, option, unsupported, UnsupportedStep } from "./step";
import type { Step } from "./step";

/** Splits a text into words. */
export type PreTokenizer = (text: AlignedText) => readonly AlignedText[];

/** The pre-tokenizer of tokenizer.json. @throws UnsupportedStep naming what is not supported. */
export function makePreTokenizer(step: Step): PreTokenizer {
  switch (step["type"]) {
    case "Sequence": {
      const inner = innerSteps(step, "pretokenizers").map(makePreTokenizer);
      return (text) => inner.reduce<readonly AlignedText[]>((words, split) => words.flatMap(split), [text]);
    }
    case "BertPreTokenizer": {
      const words = splitter(WHITE_SPACE, "Removed");
      const signs = splitter(PUNCTUATION, "Isolated");
      return (text) => words(text).flatMap(signs);
    }
    case "ByteLevel":
      return byteLevel(step);
    case "CharDelimiterSplit": {
      const delimiter = option(step, "delimiter", "string", "");
      return splitter(literal(delimiter), "Removed");
    }
    case "Digits": {
      const isIndividual = option(step, "individual_digits", "boolean", false);
      return splitter(matchesOf(/\p{N}/gu), isIndividual ? "Isolated" : "Contiguous");
    }
    case "FixedLength":
      return fixedLength(option(step, "length", "number", 5));
    case "Metaspace":
      return metaspace(step);
    case "Punctuation":
      return splitter(PUNCTUATION, behaviorOf(step));
    case "Split":
      return splitter(patternOf(step), behaviorOf(step), option(step, "invert", "boolean", false));
    case "Whitespace":
      return splitter(WORDS_AND_SIGNS, "Removed", true);
    case "WhitespaceSplit":
      return splitter(WHITE_SPACE, "Removed");
    default:
      throw unsupported("pre-tokenizer", step);
  }
}

/** What becomes of the places where a text is split. */
const BEHAVIORS = ["Removed", "Isolated", "Contiguous", "MergedWithPrevious", "MergedWithNext"] as const;

type Behavior = (typeof BEHAVIORS)[number];

function behaviorOf(step: Step): Behavior {
  const name = option(step, "behavior", "string", "Isolated");
  const behavior = BEHAVIORS.find((known) => known.toLowerCase() === name.toLowerCase().replaceAll("_", ""));
  if (behavior === undefined)
    throw new UnsupportedStep(`the behavior ${name.slice(0, 60)} of ${nameOf(step)} is not supported`);
  return behavior;
}

/** Splits where a pattern matches or, inverted, where it does not: the parts, joined as the behavior says, without empty ones. */
function splitter(pattern: Matcher, behavior: Behavior, isInverted = false): PreTokenizer {
  return (aligned) => {
    const pieces: Piece[] = [];
    let last = 0;
    for (const [from, to] of pattern(aligned.text)) {
      if (last < from) pieces.push({ from: last, to: from, isMatch: isInverted });
      pieces.push({ from, to, isMatch: !isInverted });
      last = to;
    }
    if (last < aligned.length) pieces.push({ from: last, to: aligned.length, isMatch: isInverted });
    return joined(pieces, behavior).flatMap(({ from, to }) => (from < to ? [aligned.slice(from, to)] : []));
  };
}

interface Piece {
  readonly from: number;
  to: number;
  readonly isMatch: boolean;
}

function joined(pieces: readonly Piece[], behavior: Behavior): readonly Piece[] {
  if (behavior === "Isolated") return pieces;
  if (behavior === "Removed") return pieces.filter(({ isMatch }) => !isMatch);
  const groups: Piece[] = [];
  pieces.forEach((piece, i) => {
    const previous = pieces[i - 1];
    const joins =
      behavior === "Contiguous"
        ? previous?.isMatch === piece.isMatch
        : behavior === "MergedWithPrevious"
          ? piece.isMatch && previous?.isMatch === false
          : previous?.isMatch === true && !piece.isMatch;
    if (joins) groups.at(-1)!.to = piece.to;
    else groups.push({ ...piece });
  });
  return groups;
}

const WHITE_SPACE = matchesOf(/\p{White_Space}/gu);
/** Punctuation in Unicode, and every ASCII character that is not a letter, a digit, a space or a control character. */
const PUNCTUATION = matchesOf(/[\p{P}$+<=>^`|~]/gu);
/** What Rust's regular expressions write as `\w+|[^\w\s]+`. */
const WORDS_AND_SIGNS = matchesOf(
  /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]+|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}\p{White_Space}]+/gu,
);
/** GPT-2's words. */
const WORDS = matchesOf(
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu,
);

function byteLevel(step: Step): PreTokenizer {
  const addsSpace = option(step, "add_prefix_space", "boolean", true);
  const splits = option(step, "use_regex", "boolean", true);
  const words: PreTokenizer = splits ? splitter(WORDS, "Isolated") : (text) => [text];
  return (text) => {
    const parts = words(addsSpace && !text.text.startsWith(" ") ? text.prepend(" ") : text);
    return parts.map((part) => part.map(byteCharacters));
  };
}

function metaspace(step: Step): PreTokenizer {
  const replacement = option(step, "replacement", "string", "\u2581");
  const scheme = option(step, "prepend_scheme", "string", "always");
  const isPlain = step["add_prefix_space"] === false && step["prepend_scheme"] === undefined;
  const splits = option(step, "split", "boolean", true);
  if (!["always", "first", "never"].includes(scheme)) {
    throw new UnsupportedStep(`the prepend_scheme ${scheme.slice(0, 60)} of Metaspace is not supported`);
  }
  const words: PreTokenizer = splits ? splitter(literal(replacement), "MergedWithNext") : (text) => [text];
  const spaces = literal(" ");
  return (text) => {
    const replaced = text.replace(spaces(text.text), replacement);
    const isPrepended =
      !isPlain &&
      !replaced.text.startsWith(replacement) &&
      (scheme === "always" || (scheme === "first" && text.origin === 0));
    return words(isPrepended ? replaced.prepend(replacement) : replaced);
  };
}

function fixedLength(length: number): PreTokenizer {
  return (text) => {
    const parts: AlignedText[] = [];
    let [from, to, count] = [0, 0, 0];
    for (const character of text.text) {
      to += character.length;
      if (++count % length !== 0) continue;
      parts.push(text.slice(from, to));
      from = to;
    }
    return from < to ? [...parts, text.slice(from, to)] : parts;
  };
}
