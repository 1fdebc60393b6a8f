import { readFileSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Directory } from "../../src/io/directory";
import type { Form } from "./mutate";
import type { Allowance } from "./trial";

/** A reader of files, and what hostile inputs are made of for it. */
export interface Reader extends Allowance {
  readonly name: string;
  /** Folder of seeds. */
  readonly seeds: string;
  /** The name that hostile bytes bear. */
  readonly file: string;
  /** Valid files beside it. */
  readonly beside?: Readonly<Record<string, Uint8Array>>;
  readonly form: Form;
  /** Words of the format, inserted into inputs. */
  readonly words: readonly string[];
  /** Reads, and checks what came of it: throws Error for a wrong result. */
  read(directory: Directory): Promise<void>;
}

const TESTS = fileURLToPath(new URL("..", import.meta.url));

/** A file under `test`. */
export const testFile = (path: string): Uint8Array => new Uint8Array(readFileSync(`${root()}${path}`));

/** Bundled programs lie elsewhere, and run in the repository's root. */
const root = (): string => (TESTS.endsWith("/test/") ? TESTS : `${process.cwd()}/test/`);

/** A folder's seeds by name, in a fixed order. */
export function seedsOf(folder: string): ReadonlyMap<string, Uint8Array> {
  const path = `hostile/seeds/${folder}`;
  const names = readdirSync(`${root()}${path}`).sort();
  return new Map(names.map((name) => [name, testFile(`${path}/${name}`)]));
}

/** @throws Error, which no reader may, where a result is wrong. */
export function must(holds: boolean, what: string): void {
  if (!holds) throw new Error(`a wrong result: ${what}`);
}

/** Words that mean something in every JSON file, to JavaScript, to file systems. */
export const JSON_WORDS = [
  ...[
    '"',
    "\\",
    ",",
    ":",
    "{",
    "}",
    "[",
    "]",
    "{}",
    "[]",
    "null",
    "true",
    "-",
    "9",
    "e99",
    "1.5",
    "\\u0000",
    "\\ud800",
  ],
  ...['"__proto__":{}', '"constructor"', "../", "/", "\u0000", "\ufeff", "\r\n", "//", "NaN"],
];
