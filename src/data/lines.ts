import { DataError } from "../base/errors";
import type { Directory } from "../io/directory";
import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";
import { decodeText } from "../io/json";
import { readLines } from "./text-file";
import type { Tokenizer } from "./tokenizer";

export interface BlockOptions {
  /** Number of tokens in a block. */
  readonly length: number;
  /** Text between two lines. Default two newlines, as in the perplexities of GPTQ and of work on pruning. */
  readonly separator?: string;
  /**
   * Whether every line, including blank ones, is a text with its line end, as in Hugging Face's WikiText, which published
   * perplexities join. Default false: only lines that are not blank, without their ends.
   */
  readonly asWikiText?: boolean;
}

/**
 * Reads a plain text for language modelling. Its lines are joined by `separator`, tokenised as one text without special
 * tokens, and cut into consecutive blocks of `length` ids. A last block that is not full is dropped.
 * @throws DataError if there are fewer tokens than a block has, FileFormatError if the file is missing.
 */
export async function readBlocks(
  place: DirectoryLike,
  file: string,
  tokenizer: Tokenizer,
  { length, ...options }: BlockOptions,
): Promise<Int32Array[]> {
  const directory = await directoryAt(place);
  const ids = await readTextIds(directory, file, tokenizer, options);
  return cutBlocks(ids, length, `${file} in ${directory.name}`);
}

/** The ids [n] of a plain text, from which `cutBlocks` makes blocks. @throws FileFormatError if the file is missing. */
export async function readTextIds(
  directory: Directory,
  file: string,
  tokenizer: Tokenizer,
  { separator = "\n\n", asWikiText = false }: Omit<BlockOptions, "length"> = {},
): Promise<Int32Array> {
  const texts = asWikiText ? await wikiTexts(directory, file) : await plainTexts(directory, file);
  return tokenizer.encode(texts.join(separator), undefined, { specialTokens: false }).ids;
}

async function plainTexts(directory: Directory, file: string): Promise<string[]> {
  const lines = await readLines(directory, file);
  return lines.map((line) => line.text).filter((text) => text.trim() !== "");
}

/** In WikiText, blank lines are empty texts, and the others keep their line end. */
async function wikiTexts(directory: Directory, file: string): Promise<string[]> {
  const text = decodeText(await directory.read(file), `${file} in ${directory.name}`);
  const lines = text.split(/(?<=\n)/);
  return lines.map((line) => (line.trim() === "" ? "" : line));
}

/**
 * Cuts ids [n] into floor(n / length) blocks [length], which are views of the same memory.
 * @param where name of the text in errors.
 * @throws DataError if there is no block.
 */
export function cutBlocks(ids: Int32Array, length: number, where: string): Int32Array[] {
  if (!Number.isSafeInteger(length) || length < 1) {
    throw new DataError(`a block cannot have ${length} tokens`, "give a whole number of at least 1");
  }
  const count = Math.floor(ids.length / length);
  if (count === 0) {
    throw new DataError(
      `${where} has ${ids.length} tokens, fewer than one block of ${length}`,
      "give more text, or a smaller block length",
    );
  }
  return Array.from({ length: count }, (_, index) => ids.subarray(index * length, (index + 1) * length));
}
