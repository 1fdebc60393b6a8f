import { realpath, rm, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { COMPANIONS } from "../io/companion-files";
import type { Directory } from "../io/directory";
import { CARD_FILE, isOwnCard } from "../io/model-card";
import { openDirectory } from "../node/directory";
import { RECORD_FILE, REPORT_FILE } from "../report/record";
import { UsageError } from "./options";

// A command that writes results refuses a place that has earlier ones, unless --overwrite says to write there. Then the earlier run's own
// files go, right before the first new one is written, and what somebody else put there stays.

/** The adapter or the model that a run or a merge ends with, its record and its report. */
const RESULT =
  /^(?:adapter_config\.json|adapter_model\.safetensors|model(?:-\d+-of-\d+)?\.safetensors(?:\.index\.json)?)$/;
const isResult = (file: string): boolean => RESULT.test(file) || file === RECORD_FILE || file === REPORT_FILE;

/** What a run writes beside them. */
const BESIDE =
  /^(?:(?:steps|freezes|compactions|scores|evaluations)\.csv|(?:loss|memory|adapters|time|learning-rate)\.png|(?:trace|learning-rates)\.json)$/;

/** Whether a run writes a file of this name, other than those of a model and its tokenizer. */
export const isOfRun = (file: string): boolean => isResult(file) || BESIDE.test(file);

/** The options of a run, for `--config`. */
export const CONFIG_FILE = "config.yaml";
export const CONFIG_MARK =
  "# All options of the run in this folder, written by safetape train: safetape train --config FILE repeats it.\n";

/** Whether the folder has a file of options that a run wrote, rather than somebody else. */
export async function hasOwnConfig(out: Directory): Promise<boolean> {
  if ((await out.size(CONFIG_FILE)) === undefined) return false;
  return new TextDecoder().decode(await out.read(CONFIG_FILE)).startsWith(CONFIG_MARK);
}

const inTheWay = (place: string, files = ""): UsageError =>
  new UsageError(
    `${place} has the results of an earlier run${files}.`,
    "Give another --out, or --overwrite, which removes that run's own files first.",
  );

/** @throws UsageError for a folder with earlier results. */
export async function checkFolder(path: string): Promise<void> {
  const isThere = (await stat(path).catch(() => undefined))?.isDirectory() === true;
  const results = isThere ? (await (await openDirectory(path)).list()).filter(isResult) : [];
  const others = results.length > 3 ? " and others" : "";
  if (results.length > 0) throw inTheWay(path, `: ${results.slice(0, 3).join(", ")}${others}`);
}

/**
 * @throws UsageError for a folder with event files: TensorBoard would show the settings of their run beside the numbers of the new one.
 */
export async function checkBoard(path: string): Promise<void> {
  if ((await eventFilesIn(path)).length === 0) return;
  throw new UsageError(
    `${path} has the event files of an earlier run.`,
    "Give another --tensorboard, or --overwrite, which removes that run's own files first.",
  );
}

/** Removes the event files of a folder. */
export async function removeEvents(path: string): Promise<void> {
  for (const file of await eventFilesIn(path)) await rm(join(path, file));
}

async function eventFilesIn(path: string): Promise<string[]> {
  const isThere = (await stat(path).catch(() => undefined))?.isDirectory() === true;
  const files = isThere ? await (await openDirectory(path)).list() : [];
  return files.filter((file) => file.startsWith("events.out.tfevents."));
}

/** @throws UsageError for a file of earlier results. */
export async function checkFile(path: string): Promise<void> {
  if ((await stat(path).catch(() => undefined)) !== undefined) throw inTheWay(path);
}

/** @throws UsageError for a folder that is read from as well. */
export async function checkApart(out: string, sources: readonly string[]): Promise<void> {
  const real = (path: string): Promise<string> => realpath(path).catch(() => resolve(path));
  for (const source of sources) {
    if ((await real(source)) !== (await real(out))) continue;
    throw new UsageError(`--out is ${out}, which is read from.`, "Give another --out.");
  }
}

/** Names of the files that an earlier run or merge wrote into a folder. */
export async function resultsIn(out: Directory): Promise<ReadonlySet<string>> {
  const files = await out.list();
  const [hasConfig, hasCard] = [await hasOwnConfig(out), await isOwnCard(out)];
  const isOurs = files.includes(RECORD_FILE) || hasConfig || hasCard;
  const isModel = isOurs && files.some((file) => /^model.*\.safetensors/.test(file));
  const own = files.filter(
    (file) => isResult(file) || (isOurs && BESIDE.test(file)) || (isModel && OF_MODEL.includes(file)),
  );
  return new Set([...own, ...(hasConfig ? [CONFIG_FILE] : []), ...(hasCard ? [CARD_FILE] : [])]);
}

/**
 * Removes what an earlier run or merge wrote into a folder.
 * @param kept names of files that are new already.
 */
export async function removeResults(out: Directory, kept: readonly string[] = []): Promise<void> {
  const results = await resultsIn(out);
  for (const file of results) if (!kept.includes(file)) await out.remove?.(file);
  if (results.has(CONFIG_FILE) || results.has(RECORD_FILE)) await removeEvents(join(out.name, "tensorboard"));
}

/** Files that a run on all weights copies or writes beside them. */
const OF_MODEL: readonly string[] = ["config.json", "generation_config.json", ...COMPANIONS];
