import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { UsageError } from "../options";

/**
 * What a user's module exports.
 * @param expected in the error: "a module that exports ops made by defineOp".
 * @throws UsageError for a file that does not exist or throws.
 */
export async function exportsOf(file: string, expected: string): Promise<Readonly<Record<string, unknown>>> {
  try {
    // A module is an object of its exports, of unknown types.
    return (await import(pathToFileURL(resolve(file)).href)) as Readonly<Record<string, unknown>>;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new UsageError(
      `${file} cannot be loaded: ${message.split("\n", 1)[0]}`,
      `Give ${expected}; run it with node to see where it throws.`,
    );
  }
}
