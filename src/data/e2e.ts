import { DataError } from "../base/errors";
import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";
import { oneLine } from "../io/json";
import { answerSamples } from "./answers";
import type { AnswerSamples } from "./answers";
import { readCsv } from "./csv";
import { lineError } from "./text-file";
import type { Tokenizer } from "./tokenizer";

/** A meaning representation, with all the texts that people wrote for it. */
export interface E2eExample {
  readonly meaning: string;
  readonly references: readonly string[];
}

/**
 * Reads a CSV file of the E2E NLG challenge, with the columns mr and ref (the test set has mr alone). Consecutive rows with
 * the same meaning become one example with several references.
 * @throws DataError with the line for malformed CSV, a missing column or an empty meaning, and for a file without rows.
 */
export async function readE2e(place: DirectoryLike, file: string): Promise<E2eExample[]> {
  const directory = await directoryAt(place);
  const where = `${file} in ${directory.name}`;
  const [header, ...rows] = await readCsv(directory, file);
  const fields = header?.cells ?? [];
  checkHeader(fields, where);
  const [meaningColumn, referenceColumn] = [fields.indexOf("mr"), fields.indexOf("ref")];
  const examples: { meaning: string; references: string[] }[] = [];
  for (const { line, cells } of rows) {
    const meaning = cells[meaningColumn]!;
    const reference = cells[referenceColumn] ?? "";
    if (meaning.trim() === "") throw lineError(where, line, "the meaning is empty", "fill it, or drop the row");
    const last = examples.at(-1);
    const references = reference === "" ? [] : [reference];
    if (last?.meaning === meaning) last.references.push(...references);
    else examples.push({ meaning, references });
  }
  if (examples.length === 0) throw new DataError(`${where} has no rows`, "give a file with at least one");
  return examples;
}

function checkHeader(fields: readonly string[], where: string): void {
  const [meanings, references] = ["mr", "ref"].map((name) => fields.filter((field) => field === name).length);
  if (meanings === 1 && (references === 1 || fields.length === 1)) return;
  const fact = `the header has ${oneLine(fields.join(", ")) || "nothing"}, not mr and ref`;
  throw lineError(where, 1, fact, "keep E2E's columns mr, ref");
}

/**
 * Samples of a language model, one for each reference, in the format of Microsoft's LoRA: the meaning, the begin token, a
 * space, the reference, the end token. The loss counts the reference and the end token. A vocabulary without a begin token
 * gets `||` instead; without an end token, the sample has none.
 * @param options.maxLength tokens at which samples are cut. Default 512.
 * @throws DataError if no reference starts within `maxLength` tokens.
 */
export function e2eSamples(
  examples: readonly E2eExample[],
  tokenizer: Tokenizer,
  { maxLength = 512 }: { readonly maxLength?: number } = {},
): AnswerSamples {
  const [end] = tokenizer.endIds;
  const texts = examples.flatMap((example) => {
    const prompt = { ids: promptIds(example, tokenizer), isAnswer: false };
    return example.references.map((reference) => {
      const answer = [...encode(` ${reference}`, tokenizer), ...(end === undefined ? [] : [end])];
      return [prompt, { ids: answer, isAnswer: true }];
    });
  });
  return answerSamples(texts, maxLength);
}

/** The prompts after which a model writes the text for each meaning: the samples up to the begin token. */
export function e2ePrompts(examples: readonly E2eExample[], tokenizer: Tokenizer): Int32Array[] {
  return examples.map((example) => Int32Array.from(promptIds(example, tokenizer)));
}

function promptIds({ meaning }: E2eExample, tokenizer: Tokenizer): number[] {
  const begin = tokenizer.specialId("bos") ?? tokenizer.endIds[0];
  return begin === undefined ? encode(`${meaning}||`, tokenizer) : [...encode(meaning, tokenizer), begin];
}

const encode = (text: string, tokenizer: Tokenizer): number[] => [
  ...tokenizer.encode(text, undefined, { specialTokens: false }).ids,
];
