import { readFile } from "node:fs/promises";
import { homedir, platform } from "node:os";
import { basename, dirname, join } from "node:path";
import * as v from "valibot";
import { FileFormatError } from "../base/errors";
import type { TuningCache } from "../gpu/tuning/cache";
import { errorCode, openDirectory, pathOf } from "./directory";

/** Records by key. The tuner that loads a record checks it. */
const FILE = v.object({ records: v.record(v.string(), v.unknown()) });

/** The user's directory for files that programs can create again. */
function cacheDirectory(env: Readonly<Record<string, string | undefined>> = process.env): string {
  if (env["XDG_CACHE_HOME"]) return env["XDG_CACHE_HOME"];
  if (platform() === "win32") return env["LOCALAPPDATA"] ?? join(homedir(), "AppData", "Local");
  return platform() === "darwin" ? join(homedir(), "Library", "Caches") : join(homedir(), ".cache");
}

/** Path of this user's file of tuned kernels. */
export const tuningPath = (env?: Readonly<Record<string, string | undefined>>): string =>
  join(cacheDirectory(env), "safetape", "tuning.json");

/** A cache of tuned kernels in a JSON file. The file is replaced as a whole and is never half written. */
export function fileTuningCache(place: string | URL = tuningPath()): TuningCache {
  const path = pathOf(place);
  return {
    load: async (key) => (await readRecords(path))[key],
    async save(key, record) {
      // A damaged file has no records to keep.
      const records = await readRecords(path).catch(() => ({}));
      const directory = await openDirectory(dirname(path), { create: true });
      const text = JSON.stringify({ records: { ...records, [key]: record } }, undefined, 2);
      await directory.write(basename(path), new TextEncoder().encode(`${text}\n`));
    },
  };
}

async function readRecords(path: string): Promise<Record<string, unknown>> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT") return {};
    throw error;
  }
  try {
    return v.parse(FILE, JSON.parse(text)).records;
  } catch (cause) {
    throw new FileFormatError(`${path} is not a file of tuned kernels`, "remove it: it will be created again", {
      cause,
    });
  }
}
