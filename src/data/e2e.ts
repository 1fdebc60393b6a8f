import { DataError } from "../base/errors";
import type { Directory } from "../io/directory";
import { IGNORED_LABEL } from "./sample";
import type { Sample } from "./sample";
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
  const { default: papa } = await import("papaparse");
  const text = (await readLines(directory, file)).map((line) => line.text).join("\n");
  const { data, errors, meta } = papa.parse<Record<string, string>>(text, { header: true, delimiter: "," });
  const [fault] = errors;
  // The header is line 1, and rows count from 0 behind it; a quoted cell with line ends makes that a lower bound.
  if (fault) throw lineError(where, (fault.row ?? 0) + 2, fault.message, "quote cells with commas, and close quotes");
  const fields = meta.fields ?? [];
  if (!fields.includes("mr") || (fields.length > 1 && !fields.includes("ref"))) {
    throw lineError(
      where,
      1,
      `the header has ${fields.join(", ") || "nothing"}, not mr and ref`,
      "keep E2E's columns mr, ref",
    );
  }
  const examples: { meaning: string; references: string[] }[] = [];
  for (const [index, { mr = "", ref }] of data.entries()) {
    if (mr.trim() === "") throw lineError(where, index + 2, "the meaning is empty", "fill it, or drop the row");
    const last = examples.at(-1);
    const own = ref === undefined || ref === "" ? [] : [ref];
    if (last?.meaning === mr) last.references.push(...own);
    else examples.push({ meaning: mr, references: own });
  }
  if (examples.length === 0) throw new DataError(`${where} has no rows`, "give a file with at least one");
  return examples;
}

/**
 * Samples for a language model, one a reference, in the form of LoRA's own runs: the meaning, `||`, a space and the text,
 * closed by the end token; labels only on the text and its end. Samples longer than `maxLength` are cut.
 */
export function e2eSamples(
  examples: readonly E2eExample[],
  tokenizer: Tokenizer,
  { maxLength = 512 }: { readonly maxLength?: number } = {},
): Sample[] {
  return examples.flatMap(({ meaning, references }) =>
    references.map((reference) => promptSample(`${meaning}||`, ` ${reference}`, tokenizer, maxLength)),
  );
}

/** A sample whose loss is on the completion alone: labels of the prompt are ignored. */
export function promptSample(prompt: string, completion: string, tokenizer: Tokenizer, maxLength: number): Sample {
  const encode = (text: string): number[] => [...tokenizer.encode(text, undefined, { specialTokens: false }).ids];
  const end = tokenizer.specialId("eos");
  const before = encode(prompt);
  const after = [...encode(completion), ...(end === undefined ? [] : [end])];
  const ids = Int32Array.from([...before, ...after].slice(0, maxLength));
  return { ids, label: ids.map((id, i) => (i < before.length ? IGNORED_LABEL : id)) };
}
