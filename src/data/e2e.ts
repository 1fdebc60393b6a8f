import { DataError } from "../base/errors";
import type { Directory } from "../io/directory";
import { oneLine } from "../io/json";
import { answerSamples } from "./answers";
import type { AnswerSamples } from "./answers";
import { lineError, readLines } from "./text-file";
import type { Tokenizer } from "./tokenizer";

/** A meaning representation with every text that people wrote for it. */
export interface E2eExample {
  readonly meaning: string;
  readonly references: readonly string[];
}

/**
 * Reads a CSV file of the E2E NLG challenge (columns mr and ref, or mr alone in its test set); consecutive rows of one
 * meaning are one example with several references. Throws DataError with the line for malformed CSV or a missing column.
 */
export async function readE2e(directory: Directory, file: string): Promise<E2eExample[]> {
  const where = `${file} in ${directory.name}`;
  const text = (await readLines(directory, file)).map((line) => line.text).join("\n");
  const [header, ...rows] = await parseRows(text);
  const fields = header?.cells ?? [];
  checkHeader(fields, where);
  const [meaningAt, referenceAt] = [fields.indexOf("mr"), fields.indexOf("ref")];
  const examples: { meaning: string; references: string[] }[] = [];
  for (const { line, cells, fault } of rows) {
    const uneven = cells.length === fields.length ? undefined : `${cells.length} cells, not ${fields.length}`;
    const wrong = fault ?? uneven;
    if (wrong !== undefined) throw lineError(where, line, wrong, "quote cells with commas, and close quotes");
    const meaning = cells[meaningAt]!;
    const reference = cells[referenceAt] ?? "";
    if (meaning.trim() === "") throw lineError(where, line, "the meaning is empty", "fill it, or drop the row");
    const last = examples.at(-1);
    const own = reference === "" ? [] : [reference];
    if (last?.meaning === meaning) last.references.push(...own);
    else examples.push({ meaning, references: own });
  }
  if (examples.length === 0) throw new DataError(`${where} has no rows`, "give a file with at least one");
  return examples;
}

interface Row {
  /** Where it begins, from 1. */
  readonly line: number;
  readonly cells: readonly string[];
  readonly fault: string | undefined;
}

async function parseRows(text: string): Promise<Row[]> {
  const { default: papa } = await import("papaparse");
  const rows: Row[] = [];
  let [line, read] = [1, 0];
  papa.parse<string[]>(text, {
    delimiter: ",",
    step({ data, errors, meta }) {
      // A quoted cell may hold line ends: rows are found by what was read before them.
      rows.push({ line, cells: data, fault: errors[0]?.message });
      line += text.slice(read, meta.cursor).split("\n").length - 1;
      read = meta.cursor;
    },
  });
  return rows;
}

/** Cells are looked up by place, so that no name in a file means anything to JavaScript. */
function checkHeader(fields: readonly string[], where: string): void {
  const [meanings, references] = ["mr", "ref"].map((name) => fields.filter((field) => field === name).length);
  if (meanings === 1 && (references === 1 || fields.length === 1)) return;
  const fact = `the header has ${oneLine(fields.join(", ")) || "nothing"}, not mr and ref`;
  throw lineError(where, 1, fact, "keep E2E's columns mr, ref");
}

/**
 * Samples for a language model, one a reference, as Microsoft's LoRA encodes them: the meaning, the begin token, a space and
 * the text, the end token; the loss is on the text and its end. A vocabulary without such tokens gets `||` and nothing.
 */
export function e2eSamples(
  examples: readonly E2eExample[],
  tokenizer: Tokenizer,
  { maxLength = 512 }: { readonly maxLength?: number } = {},
): AnswerSamples {
  const end = tokenizer.specialId("eos");
  const texts = examples.flatMap((example) => {
    const prompt = { ids: promptIds(example, tokenizer), isAnswer: false };
    return example.references.map((reference) => {
      const answer = [...encode(` ${reference}`, tokenizer), ...(end === undefined ? [] : [end])];
      return [prompt, { ids: answer, isAnswer: true }];
    });
  });
  return answerSamples(texts, maxLength);
}

/** What a model is given to write each meaning's text: a sample's beginning. */
export function e2ePrompts(examples: readonly E2eExample[], tokenizer: Tokenizer): Int32Array[] {
  return examples.map((example) => Int32Array.from(promptIds(example, tokenizer)));
}

function promptIds({ meaning }: E2eExample, tokenizer: Tokenizer): number[] {
  const begin = tokenizer.specialId("bos") ?? tokenizer.specialId("eos");
  return begin === undefined ? encode(`${meaning}||`, tokenizer) : [...encode(meaning, tokenizer), begin];
}

const encode = (text: string, tokenizer: Tokenizer): number[] => [
  ...tokenizer.encode(text, undefined, { specialTokens: false }).ids,
];
