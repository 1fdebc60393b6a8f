import { DataError } from "../base/errors";
import type { Directory } from "../io/directory";
import { decodeText } from "../io/json";
import { readLines } from "./text-file";
import type { Tokenizer } from "./tokenizer";

export interface BlockOptions {
  /** Tokens of a block. */
  readonly length: number;
  /** What stands between two texts: two newlines by default, as in LLM pruning's and GPTQ's perplexities. */
  readonly separator?: string;
  /**
   * Every line, blank ones too, is a text with its line end, as Hugging Face's WikiText has them: what published
   * perplexities join. Default false: lines that are not blank, without their ends.
   */
  readonly asWikiText?: boolean;
}

/**
 * Plain text for language modelling: lines joined by `separator`, tokenised as one text without special tokens, and cut into consecutive blocks of `length` ids; the rest that fills no block is dropped. Throws
 * DataError where there is not one block, FileFormatError where the file is missing.
 */
export async function readBlocks(
  directory: Directory,
  file: string,
  tokenizer: Tokenizer,
  { length, separator = "\n\n", asWikiText = false }: BlockOptions,
): Promise<Int32Array[]> {
  const texts = asWikiText ? await wikiTexts(directory, file) : await plainTexts(directory, file);
  const { ids } = tokenizer.encode(texts.join(separator), undefined, { specialTokens: false });
  return cutBlocks(ids, length, `${file} in ${directory.name}`);
}

async function plainTexts(directory: Directory, file: string): Promise<string[]> {
  const lines = await readLines(directory, file);
  return lines.map((line) => line.text).filter((text) => text.trim() !== "");
}

/** Blank lines are empty texts there; the others keep their line end. */
async function wikiTexts(directory: Directory, file: string): Promise<string[]> {
  const text = decodeText(await directory.read(file), `${file} in ${directory.name}`);
  const lines = text.split(/(?<=\n)/);
  return lines.map((line) => (line.trim() === "" ? "" : line));
}

/** [n] ids -> floor(n / length) blocks of [length], views on the same memory. Throws DataError where that is none. */
export function cutBlocks(ids: Int32Array, length: number, where: string): Int32Array[] {
  if (!Number.isSafeInteger(length) || length < 1) {
    throw new DataError(`a block cannot have ${length} tokens`, "give a whole number from 1 on");
  }
  const count = Math.floor(ids.length / length);
  if (count === 0) {
    throw new DataError(
      `${where} has ${ids.length} tokens, fewer than one block of ${length}`,
      "give more text or a smaller block length",
    );
  }
  return Array.from({ length: count }, (_, index) => ids.subarray(index * length, (index + 1) * length));
}
