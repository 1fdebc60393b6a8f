import * as v from "valibot";
import { DataError } from "../base/errors";
import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";
import { parseJsonLine } from "./jsonl";
import { IGNORED_LABEL } from "./sample";
import type { Sample } from "./sample";
import { lineError, readLines } from "./text-file";
import type { Line } from "./text-file";
import type { Tokenizer } from "./tokenizer";

/** A sentence in words, each with its tag. */
export interface TaggedSentence {
  readonly words: readonly string[];
  /** The words' tags, such as B-PER, or their numbers in a list of names. */
  readonly tags: readonly (string | number)[];
  /** The line of the file at which it begins, counted from 1. */
  readonly line: number;
}

export interface TaggedOptions {
  /**
   * Which column holds the tags: its number, counted from 1, its name in CoNLL-U Plus's first line `# global.columns = ...`, or a
   * key of JSON lines. Default: the last column; the key `ner_tags` or `tags`.
   */
  readonly tagColumn?: string | undefined;
}

/** A file with sentences, and its name in errors. */
export interface TaggedFile {
  readonly where: string;
  readonly sentences: readonly TaggedSentence[];
}

/**
 * Reads words with tags. A file that ends in .json or .jsonl has a line `{"tokens": [...], "ner_tags": [...]}` for each sentence,
 * whose tags are names or numbers; any other has a line for each word, in columns between tabs or spaces, of which the first is
 * the word, and a blank line or one that begins with -DOCSTART- between sentences (CoNLL-2003). IOB1, IOB2 and BIOES are kept as
 * they are.
 * @throws DataError with the line for columns or lengths that differ, a missing tag, a tag of another form, and an empty file;
 * FileFormatError if the file is missing.
 */
export async function readTagged(place: DirectoryLike, file: string, options: TaggedOptions = {}): Promise<TaggedFile> {
  const directory = await directoryAt(place);
  const where = `${file} in ${directory.name}`;
  const lines = await readLines(directory, file);
  const read = /\.jsonl?$/.test(file) ? readJsonLines : readColumns;
  const sentences = read(lines, where, options);
  for (const { tags, line } of sentences) {
    for (const [i, tag] of tags.entries()) {
      if (typeof tag === "number" || isTag(tag)) continue;
      // In columns, a word is a line.
      throw badTag(tag, where, read === readColumns ? line + i : line);
    }
  }
  if (sentences.length === 0) throw new DataError(`${where} has no sentences`, "give a file with at least one");
  return { where, sentences };
}

/** Whether a name is O, or a word's place in an entity and the entity's type. */
export const isTag = (tag: string): boolean => /^(?:O|[BIES](?:-.+)?)$/.test(tag);

const badTag = (tag: string, where: string, line: number): DataError =>
  lineError(
    where,
    line,
    `${JSON.stringify(tag.slice(0, 40))} is not a tag of an entity`,
    "write O, or B, I, E or S, a hyphen and a type: B-PER",
  );

const isDocumentStart = (word: string | undefined): boolean => word?.startsWith("-DOCSTART-") ?? false;

const cellsOf = (text: string): string[] =>
  text.includes("\t") ? text.split("\t").map((cell) => cell.trim()) : text.trim().split(/ +/);

function readColumns(lines: readonly Line[], where: string, { tagColumn }: TaggedOptions): TaggedSentence[] {
  const [, header] = /^# global\.columns = (.+)$/.exec(lines[0]!.text.trim()) ?? [];
  const names = header?.split(/\s+/);
  const wordAt = Math.max(0, names?.indexOf("FORM") ?? 0);
  const sentences: TaggedSentence[] = [];
  let current: { words: string[]; tags: string[]; line: number } | undefined;
  let width: number | undefined = names?.length;
  for (const { number, text } of names ? lines.slice(1) : lines) {
    // In CoNLL-U Plus, comments precede the words of a sentence. Elsewhere # is a word.
    if (names && !current && text.startsWith("#")) continue;
    const cells = cellsOf(text);
    if (text.trim() === "" || isDocumentStart(cells[wordAt])) {
      current = undefined;
      continue;
    }
    width ??= cells.length;
    if (cells.length !== width || width < 2) {
      const needed = width < 2 ? "a word and its tag are at least 2" : `the lines before have ${width}`;
      const columns = cells.length === 1 ? "1 column" : `${cells.length} columns`;
      throw lineError(where, number, `${columns}; ${needed}`, "separate columns by one tab each, or by spaces");
    }
    const tag = cells[tagPosition(tagColumn, names, width, where)]!;
    const word = cells[wordAt]!;
    if (word === "") throw lineError(where, number, "the word is empty", "fill it or drop the line");
    if (!current) sentences.push((current = { words: [], tags: [], line: number }));
    current.words.push(word);
    current.tags.push(tag);
  }
  return sentences;
}

/** Position of the column with the tags. */
function tagPosition(
  column: string | undefined,
  names: readonly string[] | undefined,
  width: number,
  where: string,
): number {
  if (column === undefined) return width - 1;
  const position = /^\d+$/.test(column) ? Number(column) - 1 : (names?.indexOf(column) ?? -1);
  if (position >= 0 && position < width) return position;
  const has = names ? `its columns are ${names.join(", ")}` : `it has ${width} columns without names`;
  throw new DataError(`${where} has no column ${column}`, `${has}; give a name, or a number from 1 to ${width}`);
}

const WORDS = v.array(v.pipe(v.string(), v.minLength(1)));
const TAGS = v.union([v.array(v.string()), v.array(v.pipe(v.number(), v.safeInteger(), v.minValue(0)))]);

function readJsonLines(lines: readonly Line[], where: string, { tagColumn }: TaggedOptions): TaggedSentence[] {
  const keys = tagColumn === undefined ? ["ner_tags", "tags"] : [tagColumn];
  return lines
    .filter(({ text }) => text.trim() !== "")
    .map((line) => {
      const { number } = line;
      const value = v.safeParse(v.record(v.string(), v.unknown()), parseJsonLine(line, where));
      const [words, tags] = value.success
        ? [
            v.safeParse(WORDS, value.output["tokens"]),
            v.safeParse(
              TAGS,
              keys.map((key) => value.output[key]).find((entry) => entry !== undefined),
            ),
          ]
        : [];
      if (!words?.success || !tags?.success) {
        const fact = `no list of tokens with a list of ${keys.join(" or ")}`;
        throw lineError(where, number, fact, 'write {"tokens": ["Rome"], "ner_tags": ["B-LOC"]} in each line');
      }
      if (words.output.length !== tags.output.length || words.output.length === 0) {
        const fact = `${words.output.length} tokens and ${tags.output.length} tags`;
        throw lineError(where, number, fact, "give a tag for each token, and at least one");
      }
      return { words: words.output, tags: tags.output, line: number };
    });
}

/** The names among the tags of some sentences, sorted; undefined where tags are numbers. */
export function tagNames(sentences: readonly TaggedSentence[]): string[] | undefined {
  const tags = new Set(sentences.flatMap((sentence) => sentence.tags));
  const names = [...tags].filter((tag) => typeof tag === "string");
  return names.length === tags.size ? names.sort() : undefined;
}

/**
 * Reads a list of tags, a name in each line.
 * @throws DataError with the line for a name that is no tag, and for one that is there twice.
 */
export async function readTagNames(place: DirectoryLike, file: string): Promise<string[]> {
  const directory = await directoryAt(place);
  const where = `${file} in ${directory.name}`;
  const names: string[] = [];
  for (const { number, text } of await readLines(directory, file)) {
    const name = text.trim();
    if (!isTag(name)) throw badTag(name, where, number);
    if (names.includes(name))
      throw lineError(where, number, `the tag ${name} for the second time`, "give each tag once");
    names.push(name);
  }
  return names;
}

export interface TaggedSampleOptions {
  /** Names of the model's labels, by label; tags that are numbers count in them. */
  readonly labelNames: readonly string[];
  /** Longest row in tokens, with special tokens. Default: no limit. */
  readonly maxLength?: number;
  /**
   * What happens to a longer sentence: "cut" leaves out what is beyond, as transformers' run_ner does, so that these words are
   * neither learnt nor scored; "window" divides it between words into several rows. Each of them begins with the words before it,
   * up to a quarter of a row, as context without labels. Default "cut".
   */
  readonly tooLong?: "cut" | "window";
}

/** Samples of sentences. */
export interface TaggedSamples {
  readonly samples: readonly Sample[];
  /** For each sentence, how many of its words have a label: all but those without tokens and those that were cut off. */
  readonly counts: readonly number[];
  /** Number of sentences that were cut. */
  readonly truncated: number;
}

/**
 * Tokenises sentences word by word. The first token of a word has its label, and all others have IGNORED_LABEL, as in
 * transformers' run_ner.
 * @throws DataError with the line for a tag that is not in `labelNames`, and for a sentence without tokens; for a `maxLength`
 * without room for one.
 */
export function taggedSamples(
  { where, sentences }: TaggedFile,
  tokenizer: Tokenizer,
  { labelNames, maxLength = Infinity, tooLong = "cut" }: TaggedSampleOptions,
): TaggedSamples {
  const labels = new Map<string | number, number>(
    labelNames.flatMap((name, i) => [[name, i] as const, [i, i] as const]),
  );
  const { before, after } = specialTokens(tokenizer);
  const room = maxLength - before.length - after.length;
  if (room < 1) throw new DataError(`a row of ${maxLength} tokens has no room for a word`, "allow longer rows");
  const samples: Sample[] = [];
  const counts: number[] = [];
  let truncated = 0;
  for (const { words, tags, line } of sentences) {
    const wordLabels = tags.map((tag) => {
      const label = labels.get(tag);
      if (label !== undefined) return label;
      const known = labelNames.length > 12 ? `${labelNames.slice(0, 12).join(", ")} and others` : labelNames.join(", ");
      throw lineError(
        where,
        line,
        `the sentence has the tag ${tag}, which the model does not have`,
        `its tags are ${known}`,
      );
    });
    const pieces = words.map((word) => tokenizer.wordIds(word));
    const length = pieces.reduce((sum, { length: own }) => sum + own, 0);
    if (length === 0) throw lineError(where, line, "the words of the sentence have no tokens", "leave it out");
    if (length > room && tooLong === "cut") truncated++;
    const windows = tooLong === "cut" ? [{ from: 0, first: 0, end: words.length }] : windowsOf(pieces, room);
    let count = 0;
    for (const { from, first, end } of windows) {
      const ids = pieces.slice(from, end).flat().slice(0, room);
      const label = new Int32Array(before.length + ids.length + after.length).fill(IGNORED_LABEL);
      let at = 0;
      for (let word = from; word < end && at < ids.length; word++) {
        if (word >= first && pieces[word]!.length > 0) {
          label[before.length + at] = wordLabels[word]!;
          count++;
        }
        at += pieces[word]!.length;
      }
      samples.push({ ids: Int32Array.from([...before, ...ids, ...after]), label });
    }
    counts.push(count);
  }
  return { samples, counts, truncated };
}

/** The special tokens before and after a text. */
function specialTokens(tokenizer: Tokenizer): {
  readonly before: readonly number[];
  readonly after: readonly number[];
} {
  const [empty, word] = [tokenizer.encode(""), tokenizer.encode("a")];
  const marker = word.ids.findIndex((id, i) => id !== empty.ids[i]);
  return { before: [...empty.ids.slice(0, marker)], after: [...empty.ids.slice(marker)] };
}

/** Words [from, end) of a row, of which those from `first` on have labels. */
interface Window {
  readonly from: number;
  readonly first: number;
  readonly end: number;
}

/** Windows of at most `room` tokens, unless a single word has more. Every word has a label in one of them. */
function windowsOf(pieces: readonly (readonly number[])[], room: number): Window[] {
  const windows: Window[] = [];
  const lengthOf = (word: number): number => pieces[word]!.length;
  for (let first = 0; first < pieces.length;) {
    let [from, used] = [first, lengthOf(first)];
    const limit = Math.min(used + Math.floor(room / 4), room);
    while (from > 0 && used + lengthOf(from - 1) <= limit) used += lengthOf(--from);
    let end = first + 1;
    while (end < pieces.length && used + lengthOf(end) <= room) used += lengthOf(end++);
    windows.push({ from, first, end });
    first = end;
  }
  return windows;
}
