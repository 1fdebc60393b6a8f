import { readFileSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Directory } from "../../src/io/directory";
import type { Form } from "./mutate";
import type { Allowance } from "./trial";

/** A reader of files, and the ingredients of its hostile inputs. */
export interface Reader extends Allowance {
  readonly name: string;
  /** Folder of its seeds below seeds/. */
  readonly seeds: string;
  /** Name of the file with the hostile bytes. */
  readonly file: string;
  /** Valid files in the same directory, by name. */
  readonly otherFiles?: Readonly<Record<string, Uint8Array>>;
  readonly form: Form;
  /** Words of the format, which mutations insert. */
  readonly words: readonly string[];
  /** Reads the file and checks the result. @throws Error for a wrong result. */
  read(directory: Directory): Promise<void>;
}

const TESTS = fileURLToPath(new URL("..", import.meta.url));

/** Reads a file below test/. */
export const testFile = (path: string): Uint8Array => new Uint8Array(readFileSync(`${root()}${path}`));

/** The folder test/ with a trailing slash. A bundled program is elsewhere, but runs in the repository's root. */
const root = (): string => (TESTS.endsWith("/test/") ? TESTS : `${process.cwd()}/test/`);

/** The seeds in a folder, by name in alphabetical order. */
export function seedsOf(folder: string): ReadonlyMap<string, Uint8Array> {
  const path = `hostile/seeds/${folder}`;
  const names = readdirSync(`${root()}${path}`).sort();
  return new Map(names.map((name) => [name, testFile(`${path}/${name}`)]));
}

/** Checks a result. @throws Error if it is wrong. Unlike a typed error, this one always counts as a failure. */
export function must(holds: boolean, what: string): void {
  if (!holds) throw new Error(`a wrong result: ${what}`);
}

/** Words with a meaning in JSON, in JavaScript or in file systems. */
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
