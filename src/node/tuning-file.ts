import { readFile } from "node:fs/promises";
import { homedir, platform } from "node:os";
import { basename, dirname, join } from "node:path";
import * as v from "valibot";
import { FileFormatError } from "../base/errors";
import type { TuningCache } from "../gpu/tuning/cache";
import { openDirectory } from "./directory";

/** Key -> record; records are checked by the tuner that asks for one. */
const FILE = v.object({ records: v.record(v.string(), v.unknown()) });

/** Where the system wants programs to keep what can be made anew. */
function cacheDirectory(env: NodeJS.ProcessEnv = process.env): string {
  if (env["XDG_CACHE_HOME"]) return env["XDG_CACHE_HOME"];
  if (platform() === "win32") return env["LOCALAPPDATA"] ?? join(homedir(), "AppData", "Local");
  return platform() === "darwin" ? join(homedir(), "Library", "Caches") : join(homedir(), ".cache");
}

/** The file of tuned kernels of this user. */
export const tuningPath = (env?: NodeJS.ProcessEnv): string => join(cacheDirectory(env), "safetape", "tuning.json");

/** Choices in a JSON file, by adapter, driver and version. It is written aside and renamed, so that it is always whole. */
export function fileTuningCache(path: string = tuningPath()): TuningCache {
  return {
    load: async (key) => (await readRecords(path))[key],
    async save(key, record) {
      // What is damaged holds nothing to keep.
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
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
    throw error;
  }
  try {
    return v.parse(FILE, JSON.parse(text)).records;
  } catch (cause) {
    throw new FileFormatError(`${path} is no file of tuned kernels`, "remove it: it is made anew", { cause });
  }
}
