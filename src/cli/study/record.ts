import { open } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { join } from "node:path";
import * as v from "valibot";
import { ConfigError } from "../../base/errors";
import type { Directory } from "../../io/directory";
import { jsonBytes, readJson } from "../../io/json";
import type { Study } from "./file";

/** File with the options of the study whose results are in a directory. */
export const RECORD_FILE = "study.json";

const RECORD = v.strictObject({
  options: v.record(v.string(), v.unknown()),
  tasks: v.record(v.string(), v.unknown()),
  methods: v.record(v.string(), v.unknown()),
  /** Missing in the records of earlier versions. */
  sources: v.optional(v.record(v.string(), v.string()), {}),
});
type StudyRecord = v.InferOutput<typeof RECORD>;

/** SHA-256 of the files that a study reads, and of the folders among them, by their paths. */
export type Fingerprints = Readonly<Record<string, string>>;

/** The options that all cells share. Paths are as the study's file has them, so that a study may be moved with its files. */
export function sharedOptions(study: Study): Record<string, unknown> {
  const { model, maxGradNorm, schedule, warmupRatio, split, earlyStopping, metric } = study;
  return { model, maxGradNorm, schedule, warmupRatio, split, earlyStopping, metric };
}

/**
 * Writes a study's options into its result directory, or checks that they are those of the results that are there. A study
 * may gain or lose tasks, methods and seeds, and keeps what it has run.
 * @param sources of the model and the data; empty for a process that runs nothing.
 * @throws ConfigError that names an option that differs, or a model or data whose files have changed.
 */
export async function claimDirectory(out: Directory, study: Study, sources: Fingerprints): Promise<void> {
  const byName = (items: readonly { readonly name: string }[]) =>
    Object.fromEntries(items.map((item) => [item.name, item]));
  const record: StudyRecord = {
    options: sharedOptions(study),
    tasks: byName(study.tasks),
    methods: byName(study.methods),
    sources,
  };
  if (await isFirst(out, record)) return;
  const there = await readWhenWritten(out);
  for (const part of ["options", "tasks", "methods"] as const) {
    const differs = Object.keys(record[part]).find((name) => {
      const isKnown = part === "options" || Object.hasOwn(there[part], name);
      return isKnown && JSON.stringify(record[part][name]) !== JSON.stringify(there[part][name]);
    });
    if (differs === undefined) continue;
    const what = part === "options" ? differs : `the ${part === "tasks" ? "task" : "method"} ${differs}`;
    throw new ConfigError(
      `${out.name} has results of a study with other options: ${what} is not the same.`,
      "Give another --out, or remove these results.",
    );
  }
  const changed = Object.keys(sources).find(
    (path) => there.sources[path] !== undefined && there.sources[path] !== sources[path],
  );
  if (changed !== undefined) {
    throw new ConfigError(
      `${changed} has changed since the results in ${out.name} were begun.`,
      "Give another --out, or bring back what it was.",
    );
  }
  const all: StudyRecord = {
    options: there.options,
    tasks: { ...there.tasks, ...record.tasks },
    methods: { ...there.methods, ...record.methods },
    sources: { ...there.sources, ...sources },
  };
  if (JSON.stringify(all) !== JSON.stringify(there)) await out.write(RECORD_FILE, jsonBytes(all));
}

/** Writes the record where there is none. Of several workers that start together, one is first. */
async function isFirst(out: Directory, record: StudyRecord): Promise<boolean> {
  const handle = await open(join(out.name, RECORD_FILE), "wx").catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "EEXIST") return undefined;
    throw error;
  });
  if (!handle) return false;
  await handle.writeFile(jsonBytes(record));
  await handle.close();
  return true;
}

/** Another worker may have created the file just now. */
async function readWhenWritten(out: Directory): Promise<StudyRecord> {
  for (let attempt = 0; attempt < 40 && (await out.size(RECORD_FILE)) === 0; attempt++) await sleep(50);
  return readJson(out, RECORD_FILE, RECORD);
}
