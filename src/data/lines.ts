import { DataError } from "../base/errors";
import type { Directory } from "../io/directory";
import { readLines } from "./text-file";
import type { Tokenizer } from "./tokenizer";

export interface BlockOptions {
  /** Tokens of a block. */
  readonly length: number;
  /** What stands between two texts: two newlines by default, as in LLM pruning's and GPTQ's perplexities. */
  readonly separator?: string;
}

/**
 * Plain text for language modelling: the lines that are not blank, joined by `separator`, tokenised as one text without
 * special tokens, and cut into consecutive blocks of `length` ids; the rest that fills no block is dropped. Throws
 * DataError where there is not one block, FileFormatError where the file is missing.
 */
export async function readBlocks(
  directory: Directory,
  file: string,
  tokenizer: Tokenizer,
  { length, separator = "\n\n" }: BlockOptions,
): Promise<Int32Array[]> {
  const lines = await readLines(directory, file);
  const texts = lines.map((line) => line.text).filter((text) => text.trim() !== "");
  const { ids } = tokenizer.encode(texts.join(separator), undefined, { specialTokens: false });
  return cutBlocks(ids, length, `${file} in ${directory.name}`);
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
