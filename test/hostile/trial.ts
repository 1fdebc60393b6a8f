import { SafetapeError } from "../../src/base/errors";
import { memoryDirectory } from "../../src/io/directory";
import type { Directory } from "../../src/io/directory";

/** The outcome of reading one input, and its costs. */
export interface Trial {
  /** "result", or the name of the typed error. */
  readonly outcome: string;
  readonly milliseconds: number;
  /** Growth of array buffers during the read. A garbage collection can make it too small, never too large. */
  readonly bufferBytes: number;
  /** Growth of the JavaScript heap during the read. A garbage collection can make it too small, never too large. */
  readonly heapBytes: number;
}

/** The costs that an input may have. */
export interface Allowance {
  /** Bytes of memory per byte of the files, as the format justifies (a deflated byte can expand to 1,032). */
  readonly perByte: number;
  /** Default 5000. */
  readonly milliseconds?: number;
}

/** Memory that any input may take: caches, compiled code, and buffers whose size does not depend on the file. */
const FIXED_BYTES = 12 << 20;

/**
 * Reads hostile files.
 * @throws Error unless the read ends with a result or a SafetapeError of two lines, asks for plain file names and at most three
 * times the files' bytes, stays within the allowance and leaves the built-in prototypes unchanged.
 */
export async function trial(
  files: Readonly<Record<string, Uint8Array>>,
  { perByte, milliseconds: limit = 5000 }: Allowance,
  read: (directory: Directory) => Promise<void>,
): Promise<Trial> {
  const size = Object.values(files).reduce((sum, bytes) => sum + bytes.length, 0);
  const before = process.memoryUsage();
  const start = performance.now();
  const outcome = await outcomeOf(() => read(watched(files, size)));
  const milliseconds = performance.now() - start;
  const after = process.memoryUsage();
  const bufferBytes = after.arrayBuffers - before.arrayBuffers;
  const heapBytes = after.heapUsed - before.heapUsed;
  const allowed = FIXED_BYTES + perByte * size;
  for (const [memory, bytes] of [
    ["array buffers", bufferBytes],
    ["the heap", heapBytes],
  ] as const) {
    if (bytes > allowed)
      throw new Error(`${memory} grew by ${bytes} bytes for files of ${size}; ${allowed} are allowed`);
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
      throw new Error("an error message is not one line of fact and one of remedy", { cause: error });
    }
    return error.name;
  }
}

/** A directory that throws if it is asked for a name with a path, or for more than three times the bytes of its files. */
function watched(files: Readonly<Record<string, Uint8Array>>, size: number): Directory {
  const inner = memoryDirectory("hostile", files);
  let remainingBytes = 3 * size + 4096;
  const checkName = (file: string): void => {
    if (!["/", "\\", "\0"].some((part) => file.includes(part)) && file !== "." && file !== "..") return;
    throw new Error(`a file outside the directory was asked for: ${file}`);
  };
  return {
    ...inner,
    size: (file) => {
      checkName(file);
      return inner.size(file);
    },
    read: async (file, start = 0, end) => {
      checkName(file);
      remainingBytes -= (end ?? (await inner.size(file)) ?? 0) - start;
      if (!(remainingBytes >= 0))
        throw new Error(`more than three times the ${size} bytes of the files were asked for`);
      return inner.read(file, start, end);
    },
  };
}

const PROTOTYPES = [Object.prototype, Array.prototype, Function.prototype, Map.prototype, String.prototype];
// Symbols are not compared, since test libraries add some.
const propertyNames = (prototype: object): string => Object.getOwnPropertyNames(prototype).join();
const INITIAL_NAMES = PROTOTYPES.map(propertyNames);

function checkPrototypes(): void {
  PROTOTYPES.forEach((prototype, i) => {
    const names = propertyNames(prototype);
    if (names !== INITIAL_NAMES[i]) throw new Error(`a prototype was polluted: it has ${names}`);
  });
  if (Object.keys({}).length > 0 || "polluted" in Object.prototype) {
    throw new Error("Object.prototype was polluted");
  }
}
