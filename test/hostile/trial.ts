import { SafetapeError } from "../../src/base/errors";
import { memoryDirectory } from "../../src/io/directory";
import type { Directory } from "../../src/io/directory";

/** What one input did: how it ended, and what it cost. */
export interface Trial {
  /** "result", or the class of the typed error. */
  readonly outcome: string;
  readonly milliseconds: number;
  /** Growth of array buffers and of the JS heap while it was read: too small where memory was collected, never too large. */
  readonly bufferBytes: number;
  readonly heapBytes: number;
}

/** What an input may cost. */
export interface Allowance {
  /** Bytes of memory for a byte of the files: what the format justifies (a deflated byte may stand for 1,032). */
  readonly perByte: number;
  readonly milliseconds?: number;
}

/** Memory that every input may take: caches, compiled code, and buffers whose size no file chooses. */
const FIXED_BYTES = 12 << 20;

/**
 * Reads hostile files and checks what must hold: a SafetapeError of two lines or a result; no file is asked for beside
 * those that are there, and no byte that none has; time, memory and `Object.prototype` as before. Throws Error otherwise.
 */
export async function trial(
  files: Readonly<Record<string, Uint8Array>>,
  { perByte, milliseconds: limit = 5000 }: Allowance,
  read: (directory: Directory) => Promise<void>,
): Promise<Trial> {
  const size = Object.values(files).reduce((sum, bytes) => sum + bytes.length, 0);
  const before = process.memoryUsage();
  const begin = performance.now();
  const outcome = await outcomeOf(() => read(watched(files, size)));
  const milliseconds = performance.now() - begin;
  const after = process.memoryUsage();
  const bufferBytes = after.arrayBuffers - before.arrayBuffers;
  const heapBytes = after.heapUsed - before.heapUsed;
  const allowed = FIXED_BYTES + perByte * size;
  for (const [what, bytes] of [
    ["array buffers", bufferBytes],
    ["the heap", heapBytes],
  ] as const) {
    if (bytes > allowed) throw new Error(`${what} grew by ${bytes} bytes for files of ${size}; ${allowed} are allowed`);
  }
  if (milliseconds > limit) throw new Error(`it took ${milliseconds.toFixed(0)} ms; ${limit} are allowed`);
  checkPrototypes();
  return { outcome, milliseconds, bufferBytes, heapBytes };
}

async function outcomeOf(action: () => Promise<void>): Promise<string> {
  try {
    await action();
    return "result";
  } catch (error) {
    if (!(error instanceof SafetapeError)) throw error;
    if (error.fact.includes("\n") || error.remedy.includes("\n") || error.remedy === "" || error.fact.length > 2000) {
      throw new Error("an error is one line of fact and one of remedy", { cause: error });
    }
    return error.name;
  }
}

/** A directory that may be asked for plain names and for bytes that its files have, three times over in all. */
function watched(files: Readonly<Record<string, Uint8Array>>, size: number): Directory {
  const inner = memoryDirectory("hostile", files);
  let left = 3 * size + 4096;
  const plain = (file: string): void => {
    if (!["/", "\\", "\0"].some((part) => file.includes(part)) && file !== "." && file !== "..") return;
    throw new Error(`a file outside the directory was asked for: ${file}`);
    throw new Error(`a file outside the directory was asked for: ${file}`);
  };
  return {
    ...inner,
    size: (file) => {
      plain(file);
      return inner.size(file);
    },
    read: async (file, start = 0, end) => {
      plain(file);
      left -= (end ?? (await inner.size(file)) ?? 0) - start;
      if (!(left >= 0)) throw new Error(`more than three times the ${size} bytes of the files were asked for`);
      return inner.read(file, start, end);
    },
  };
}

const WATCHED = [Object.prototype, Array.prototype, Function.prototype, Map.prototype, String.prototype];
// No symbols: a test library may add some of its own.
const names = (prototype: object): string => Object.getOwnPropertyNames(prototype).join();
const usual = WATCHED.map(names);

function checkPrototypes(): void {
  WATCHED.forEach((prototype, i) => {
    if (names(prototype) !== usual[i]) throw new Error(`a prototype was polluted: it has ${names(prototype)}`);
  });
  if (Object.keys({}).length > 0 || (Object.prototype as { polluted?: unknown }).polluted !== undefined) {
    throw new Error("Object.prototype was polluted");
  }
}
