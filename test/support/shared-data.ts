import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";

const SHARED = fileURLToPath(new URL("../../../shared/data/", import.meta.url));

/**
 * A folder of `../shared/data`, real files that lie beside a checkout and are not committed, since not all of their licences
 * are stated. Undefined where it is missing: its tests are left out then.
 */
export function sharedData(name: string): string | undefined {
  const path = resolve(SHARED, name);
  return existsSync(path) ? path : undefined;
}

/** The bytes of a file, which may be compressed under its name with `.gz`. */
export function sharedFile(folder: string, file: string): Uint8Array {
  const path = join(folder, file);
  return new Uint8Array(existsSync(path) ? readFileSync(path) : gunzipSync(readFileSync(`${path}.gz`)));
}

/** What the name of a test says that needs such a folder, where there is none. */
export const unless = (folder: string | undefined): string =>
  folder === undefined ? " (skipped: there is no ../shared/data beside this checkout)" : "";
