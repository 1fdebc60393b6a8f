import { createHash } from "node:crypto";
import { inputsOf, readInput } from "./corpus";
import type { Reader } from "./reader";
import type { Watchdog } from "./watchdog";

/** How every input of a reader ended, packed. */
export interface Outcomes {
  readonly inputs: number;
  /** Of all inputs' bytes. */
  readonly sha256: string;
  readonly counts: Readonly<Record<string, number>>;
  /** A letter an input, in order, a hundred to a line. */
  readonly letters: readonly string[];
}

/** What inputs cost at most. */
export interface Costs {
  readonly slowestMilliseconds: number;
  readonly mostBufferBytes: number;
  readonly mostHeapBytes: number;
}

const LETTERS: Readonly<Record<string, string>> = {
  result: ".",
  FileFormatError: "f",
  DataError: "d",
  ConfigError: "c",
  ShapeError: "s",
  DtypeError: "t",
};

/**
 * Reads a reader's seeds and `count` mutations of them. Throws Error, naming the input, for an error without a type, a wrong
 * result, too much memory or time, a file outside, a polluted prototype.
 */
export async function outcomesOf(
  reader: Reader,
  { count, seed, began }: { readonly count: number; readonly seed: number; readonly began?: (input: number) => void },
): Promise<Outcomes & { readonly costs: Costs }> {
  const hash = createHash("sha256");
  const counts: Record<string, number> = {};
  let [letters, inputs, slowest, buffers, heap] = ["", 0, 0, 0, 0];
  for (const input of inputsOf(reader, count, seed)) {
    began?.(inputs++);
    hash.update(input.bytes);
    const { outcome, milliseconds, bufferBytes, heapBytes } = await readInput(reader, input);
    counts[outcome] = (counts[outcome] ?? 0) + 1;
    letters += LETTERS[outcome] ?? "?";
    slowest = Math.max(slowest, milliseconds);
    buffers = Math.max(buffers, bufferBytes);
    heap = Math.max(heap, heapBytes);
  }
  const costs = { slowestMilliseconds: Math.ceil(slowest), mostBufferBytes: buffers, mostHeapBytes: heap };
  return { inputs, sha256: hash.digest("hex"), counts, letters: letters.match(/.{1,100}/g) ?? [], costs };
}

/** As `outcomesOf`, ended by a watchdog where an input hangs. */
export async function watchedOutcomes(
  dog: Watchdog,
  index: number,
  reader: Reader,
  run: { readonly count: number; readonly seed: number },
): Promise<Outcomes & { readonly costs: Costs }> {
  try {
    return await outcomesOf(reader, { ...run, began: (input) => dog.begin(index, input) });
  } finally {
    dog.begin(index, -1);
  }
}
