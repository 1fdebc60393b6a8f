/**
 * Stem of an English word in lower case: Porter's algorithm (1980, An algorithm for suffix stripping) with the changes of
 * NLTK's PorterStemmer, which METEOR and ROUGE are published with: words of two letters stay, a few irregular words are
 * listed, `y` becomes `i` after any consonant (flies and fly), and -alli, -fulli and -logi are shortened.
 */
export function porterStem(word: string): string {
  const irregular = IRREGULAR.get(word);
  if (irregular !== undefined) return irregular;
  if (word.length <= 2) return word;
  const withoutPlural = word.length === 4 ? word.replace(/ies$/, "ie") : word;
  let stem = replaced(withoutPlural, PLURALS);
  stem = withoutEdAndIng(stem);
  if (stem.length > 2 && stem.endsWith("y") && isConsonant(stem, stem.length - 2)) stem = `${stem.slice(0, -1)}i`;
  stem = withShortSuffix(stem);
  stem = replaced(stem, STEP_3);
  stem = replaced(stem, STEP_4);
  stem = withoutFinalE(stem);
  return stem.endsWith("ll") && measure(stem.slice(0, -1)) > 1 ? stem.slice(0, -1) : stem;
}

/** A suffix, what replaces it, and the condition on what is left of the word. */
type Rule = readonly [suffix: string, replacement: string, applies?: (stem: string) => boolean];

const IRREGULAR: ReadonlyMap<string, string> = new Map(
  [
    ...["skies sky", "sky sky", "dying die", "lying lie", "tying tie", "news news", "howe howe", "innings inning"],
    ...["inning inning", "outings outing", "outing outing", "cannings canning", "canning canning"],
    ...["proceed proceed", "exceed exceed", "succeed succeed"],
  ].map(pairOf),
);

const isPositive = (stem: string): boolean => measure(stem) > 0;
const isAboveOne = (stem: string): boolean => measure(stem) > 1;

const PLURALS: readonly Rule[] = [
  ["sses", "ss"],
  ["ies", "i"],
  ["ss", "ss"],
  ["s", ""],
];

const STEP_2: readonly Rule[] = [
  ...["ational ate", "tional tion", "enci ence", "anci ance", "izer ize", "bli ble", "alli al", "entli ent", "eli e"],
  ...["ousli ous", "ization ize", "ation ate", "ator ate", "alism al", "iveness ive", "fulness ful", "ousness ous"],
  ...["aliti al", "iviti ive", "biliti ble", "fulli ful"],
].map((rule): Rule => [...pairOf(rule), isPositive]);

const STEP_3: readonly Rule[] = [
  ["icate", "ic", isPositive],
  ["ative", "", isPositive],
  ["alize", "al", isPositive],
  ["iciti", "ic", isPositive],
  ["ical", "ic", isPositive],
  ["ful", "", isPositive],
  ["ness", "", isPositive],
];

const STEP_4: readonly Rule[] = [
  ...[
    "al",
    "ance",
    "ence",
    "er",
    "ic",
    "able",
    "ible",
    "ant",
    "ement",
    "ment",
    "ent",
    "ion",
    "ou",
    "ism",
    "ate",
    "iti",
  ],
  ...["ous", "ive", "ize"],
].map((suffix): Rule => {
  return [suffix, "", suffix === "ion" ? (stem) => isAboveOne(stem) && /[st]$/.test(stem) : isAboveOne];
});

function pairOf(words: string): [string, string] {
  const [first, second] = words.split(" ");
  return [first!, second!];
}

/** Applies the first rule whose suffix the word has; if its condition does not hold, the word stays. */
function replaced(word: string, rules: readonly Rule[]): string {
  const rule = rules.find(([suffix]) => word.endsWith(suffix));
  if (!rule) return word;
  const [suffix, replacement, applies] = rule;
  const stem = word.slice(0, word.length - suffix.length);
  return applies === undefined || applies(stem) ? stem + replacement : word;
}

function withoutEdAndIng(word: string): string {
  if (word.endsWith("ied")) return word.slice(0, word.length === 4 ? -1 : -2);
  if (word.endsWith("eed")) return isPositive(word.slice(0, -3)) ? word.slice(0, -1) : word;
  const suffix = ["ed", "ing"].find((each) => word.endsWith(each));
  const stem = suffix === undefined ? "" : word.slice(0, -suffix.length);
  if (!hasVowel(stem)) return word;
  if (/(?:at|bl|iz)$/.test(stem)) return `${stem}e`;
  if (/(.)\1$/.test(stem) && isConsonant(stem, stem.length - 1)) return /[lsz]$/.test(stem) ? stem : stem.slice(0, -1);
  return measure(stem) === 1 && endsShort(stem) ? `${stem}e` : stem;
}

function withShortSuffix(word: string): string {
  if (word.endsWith("alli") && isPositive(word.slice(0, -4))) return withShortSuffix(word.slice(0, -2));
  // NLTK measures -logi without its last three letters alone.
  if (word.endsWith("logi") && isPositive(word.slice(0, -3))) return word.slice(0, -1);
  return replaced(word, STEP_2);
}

function withoutFinalE(word: string): string {
  const stem = word.slice(0, -1);
  if (!word.endsWith("e")) return word;
  return isAboveOne(stem) || (measure(stem) === 1 && !endsShort(stem)) ? stem : word;
}

/** Whether a letter is a consonant; `y` is one at the beginning and after a vowel. */
function isConsonant(word: string, at: number): boolean {
  let before = at;
  while (before > 0 && word[before] === "y") before--;
  // Letters y after another letter are vowels and consonants in turn.
  const isEven = (at - before) % 2 === 0;
  return isEven !== "aeiou".includes(word[before]!);
}

const hasVowel = (word: string): boolean => Array.from(word, (_, i) => i).some((i) => !isConsonant(word, i));

/** Number of times that a consonant follows a vowel. */
function measure(word: string): number {
  let count = 0;
  for (let i = 1; i < word.length; i++) if (isConsonant(word, i) && !isConsonant(word, i - 1)) count++;
  return count;
}

/** Whether a word ends with consonant, vowel, consonant other than w, x, y (Porter's *o), or is a vowel and a consonant. */
function endsShort(word: string): boolean {
  const last = word.length - 1;
  if (last < 1 || !isConsonant(word, last) || isConsonant(word, last - 1)) return false;
  return last === 1 || (isConsonant(word, last - 2) && !/[wxy]$/.test(word));
}
