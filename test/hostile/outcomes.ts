import { createHash } from "node:crypto";
import { inputsOf, readInput } from "./corpus";
import type { Reader } from "./reader";
import type { Watchdog } from "./watchdog";

/** The outcomes of all inputs of a reader, in compact form. */
export interface Outcomes {
  /** Number of inputs. */
  readonly inputs: number;
  /** Hash of the bytes of all inputs. */
  readonly sha256: string;
  /** Number of inputs by outcome. */
  readonly counts: Readonly<Record<string, number>>;
  /** One letter per input, in order, in lines of a hundred. */
  readonly letters: readonly string[];
}

/** The largest costs of any input. */
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
 * Reads a reader's seeds and `count` mutations of them. Calls `onInput` with the index of each input before it is read.
 * @throws Error that names the input for an untyped error, a wrong result, too much memory or time, an access outside the
 * directory, or a polluted prototype.
 */
export async function outcomesOf(
  reader: Reader,
  {
    count,
    seed,
    onInput,
  }: { readonly count: number; readonly seed: number; readonly onInput?: (index: number) => void },
): Promise<Outcomes & { readonly costs: Costs }> {
  const hash = createHash("sha256");
  const counts: Record<string, number> = {};
  let [letters, inputs, slowest, buffers, heap] = ["", 0, 0, 0, 0];
  for (const input of inputsOf(reader, count, seed)) {
    onInput?.(inputs++);
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

/** Calls `outcomesOf` under a watchdog, which ends the process if an input hangs. `index` is the reader's, for the watchdog. */
export async function watchedOutcomes(
  watchdog: Watchdog,
  index: number,
  reader: Reader,
  run: { readonly count: number; readonly seed: number },
): Promise<Outcomes & { readonly costs: Costs }> {
  try {
    return await outcomesOf(reader, { ...run, onInput: (input) => watchdog.begin(index, input) });
  } finally {
    watchdog.begin(index, -1);
  }
}
