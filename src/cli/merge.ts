import { stat } from "node:fs/promises";
import { mergeAdapters } from "../adapter/merge-adapters";
import type { WeightedAdapter } from "../adapter/merge-adapters";
import { mergeIntoModel } from "../adapter/merge-into-model";
import { memoryDirectory } from "../io/directory";
import type { Directory } from "../io/directory";
import { openDirectory } from "../node/index";
import { openAdapter } from "./base-model";
import { checkApart, checkFolder, removeResults, resultsIn } from "./earlier-results";
import { headOf, MERGE } from "./flags";
import { readOptions, UsageError } from "./options";
import type { Print, RawOptions } from "./options";
import { checkPath } from "./paths";
import { lazyDirectory } from "./resumable-run";
import { progressOn } from "./view/progress";
import { Screen } from "./view/screen";

/** `safetape merge`: several LoRA adapters as one, or an adapter merged into a model. */
export async function mergeCommand(places: readonly string[], raw: RawOptions, print: Print): Promise<void> {
  const {
    out,
    into,
    format,
    labels,
    json,
    overwrite,
    majoritySignMethod: majoritySign,
    baseModel,
    quiet,
    ...rest
  } = readOptions(MERGE, raw);
  if (places.length === 0) throw new UsageError("No adapters are named.", "Name directories: DIR or DIR:WEIGHT ...");
  const foreign = into !== undefined ? undefined : format !== undefined ? "--format" : labels && "--labels";
  if (foreign !== undefined) throw new UsageError(`${foreign} is of a model.`, "Give --into MODEL, or leave it out.");
  const parts: WeightedPath[] = [];
  for (const place of places) parts.push(await weightedPath(place));
  await checkApart(out, [...parts.map(({ path }) => path), ...(into === undefined ? [] : [into])]);
  if (!overwrite) await checkFolder(out);
  const adapters: WeightedAdapter[] = [];
  for (const { path, ...weight } of parts) {
    const adapter = into === undefined ? await openDirectory(path) : await openAdapter(path, into);
    adapters.push({ adapter, ...weight });
  }
  const to = overResults(out);
  const given = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined));
  const options = { ...given, ...(majoritySign && { majoritySign }) };
  const card = { ...(baseModel !== undefined && { baseModel }) };
  const note = (baseModels: readonly string[]): void => {
    if (baseModels.length < 2) return;
    process.stderr.write(
      `note: the adapters name different base models (${baseModels.join(", ")}); only shapes were compared\n`,
    );
  };
  if (into === undefined) {
    const result = await mergeAdapters(adapters, to, { ...options, card });
    note(result.baseModels);
    print(json ? JSON.stringify(result) : `LoRA of rank ${result.rank} in ${result.modules} modules, in ${out}`);
    return;
  }
  const [first, ...others] = adapters;
  const isOne = others.length === 0 && first!.weight === undefined;
  // The sum of several, exactly.
  const sum = memoryDirectory("the sum of the adapters");
  if (!isOne) note((await mergeAdapters(adapters, sum, { method: "cat", ...options, card: false })).baseModels);
  else if (Object.keys(options).length > 0) {
    throw new UsageError("One adapter is merged into a model as it is.", "Leave out the options of several adapters.");
  }
  const screen = new Screen(quiet);
  const settings = { ...headOf({ labels }), ...(format && { format }), card };
  let result;
  try {
    result = await progressOn(screen)("merging", (onProgress) =>
      mergeIntoModel(isOne ? first!.adapter : sum, into, to, { ...settings, onProgress }),
    );
  } finally {
    screen.end();
  }
  print(json ? JSON.stringify(result) : `${result.tensors} tensors in ${result.format}, in ${out}`);
}

interface WeightedPath {
  readonly path: string;
  readonly weight?: number;
}

const isDirectory = async (path: string): Promise<boolean> =>
  (await stat(path).catch(() => undefined))?.isDirectory() === true;

/**
 * DIR or DIR:WEIGHT. Paths may have colons, so that a place which is there as it is written is a path.
 * @throws UsageError for a weight that is not a number, and where there is no directory.
 */
async function weightedPath(place: string): Promise<WeightedPath> {
  const [, before = place, weight] = /^(.+):([^:]*)$/.exec(place) ?? [];
  if (weight !== undefined && !(await isDirectory(place)) && (await isDirectory(before))) {
    const number = weight.trim() === "" ? NaN : Number(weight);
    if (Number.isFinite(number)) return { path: before, weight: number };
    throw new UsageError(`The weight of ${before} is ${JSON.stringify(weight)}.`, `Give a number: ${before}:0.5.`);
  }
  await checkPath("merge", place, { kind: "directory" });
  return { path: place };
}

/** A directory that is created, and whose earlier results are removed, once the new ones are there to be written. */
function overResults(path: string): Directory {
  const directory = lazyDirectory(path);
  let found: Promise<ReadonlySet<string>> | undefined;
  const isOld = async (file: string): Promise<boolean> => (await (found ??= resultsIn(directory))).has(file);
  return {
    ...directory,
    // What is removed is no reason to leave out a new file.
    size: async (file) => ((await isOld(file)) ? undefined : directory.size(file)),
    async writeTogether(files) {
      await removeResults(directory);
      await directory.writeTogether(files);
    },
  };
}
