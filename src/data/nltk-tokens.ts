const STARTING_QUOTES: readonly Step[] = [
  [/([«“‘„]|`+)/g, " $1 "],
  [/^"/g, "``"],
  [/(``)/g, " $1 "],
  [/([ ([{<])("|'{2})/g, "$1 `` "],
  [/(')(?!re|ve|ll|m|t|s|d|n)([\p{L}\p{N}_])(?![\p{L}\p{N}_])/giu, "$1 $2"],
];
const PUNCTUATION: readonly Step[] = [
  [/([^.])(\.)([\])}>"'»”’ ]*)\s*$/gu, "$1 $2 $3 "],
  [/([:,])(\P{Nd})/gu, " $1 $2"],
  [/([:,])$/g, " $1 "],
  [/\.{2,}/g, " $& "],
  [/[;@#$%&]/g, " $& "],
  [/([^.])(\.)([\])}>"']*)\s*$/gu, "$1 $2$3 "],
  [/[?!]/g, " $& "],
  [/([^'])' /gu, "$1 ' "],
  [/[*]/g, " $& "],
  [/[\][(){}<>]/g, " $& "],
  [/--/g, " -- "],
];
const ENDING_QUOTES: readonly Step[] = [
  [/([»”’])/g, " $1 "],
  [/''/g, " '' "],
  [/"/g, " '' "],
  [/([^' ])('[sS]|'[mM]|'[dD]|') /gu, "$1 $2 "],
  [/([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) /gu, "$1 $2 "],
  // Contractions that are written as one word.
  [/\b(can)(not)\b/gi, " $1 $2 "],
  [/\b(d)('ye)\b/gi, " $1 $2 "],
  [/\b(gim)(me)\b/gi, " $1 $2 "],
  [/\b(gon)(na)\b/gi, " $1 $2 "],
  [/\b(got)(ta)\b/gi, " $1 $2 "],
  [/\b(lem)(me)\b/gi, " $1 $2 "],
  [/\b(more)('n)\b/gi, " $1 $2 "],
  [/\b(wan)(na)(?=\s)/gi, " $1 $2 "],
  [/ ('t)(is)\b/gi, " $1 $2 "],
  [/ ('t)(was)\b/gi, " $1 $2 "],
];

type Step = readonly [pattern: RegExp, replacement: string];

/** The end of a sentence: a full stop, question or exclamation mark, and a next word that begins with a capital or a digit. */
const SENTENCE_END = /(?<=[.?!]["'”’)\]]*)\s+(?=["'“‘([]*[\p{Lu}\p{Nd}])/u;

/**
 * The words and punctuation marks of a text, as NLTK's `word_tokenize` gives them. Sentences end where a capital follows their
 * mark; NLTK's trained list of abbreviations, which would keep "U.S. Army" together, is not here.
 */
export function nltkTokens(text: string): string[] {
  return text.split(SENTENCE_END).flatMap(sentenceTokens);
}

function sentenceTokens(sentence: string): string[] {
  const marked = replaceAll(replaceAll(sentence, STARTING_QUOTES), PUNCTUATION);
  return replaceAll(` ${marked} `, ENDING_QUOTES)
    .split(/\s+/)
    .filter((token) => token !== "");
}

const replaceAll = (text: string, steps: readonly Step[]): string =>
  steps.reduce((result, [pattern, replacement]) => result.replace(pattern, replacement), text);
