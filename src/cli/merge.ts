import { resolve } from "node:path";
import { mergeAdapters } from "../adapter/merge-adapters";
import type { WeightedAdapter } from "../adapter/merge-adapters";
import { mergeIntoModel } from "../adapter/merge-into-model";
import { memoryDirectory } from "../io/directory";
import { openDirectory } from "../node/index";
import { openAdapter } from "./base-model";
import { headOf, MERGE } from "./flags";
import { readOptions, UsageError } from "./options";
import type { Print, RawOptions } from "./options";
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
    majoritySignMethod: majoritySign,
    baseModel,
    quiet,
    ...rest
  } = readOptions(MERGE, raw);
  if (places.length === 0) throw new UsageError("No adapters are named.", "Name directories: DIR or DIR:WEIGHT ...");
  const foreign = into !== undefined ? undefined : format !== undefined ? "--format" : labels && "--labels";
  if (foreign !== undefined) throw new UsageError(`${foreign} is of a model.`, "Give --into MODEL, or leave it out.");
  const adapters: WeightedAdapter[] = [];
  for (const place of places) {
    // A weight is what follows the last colon, if it is a number: paths may have colons.
    const [, path = place, weight] = /^(.+):([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)$/i.exec(place) ?? [];
    const adapter = into === undefined ? await openDirectory(path) : await openAdapter(path, into);
    adapters.push({ adapter, ...(weight !== undefined && { weight: Number(weight) }) });
  }
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
    const result = await mergeAdapters(adapters, out, { ...options, card });
    note(result.baseModels);
    print(json ? JSON.stringify(result) : `LoRA of rank ${result.rank} in ${result.modules} modules, in ${out}`);
    return;
  }
  if (resolve(out) === resolve(into)) {
    throw new UsageError(`--out is the model of --into, ${into}, itself.`, "Give another directory.");
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
  const result = await progressOn(screen)("merging", (onProgress) =>
    mergeIntoModel(isOne ? first!.adapter : sum, into, out, {
      ...headOf({ labels }),
      ...(format && { format }),
      card,
      onProgress,
    }),
  );
  screen.end();
  print(json ? JSON.stringify(result) : `${result.tensors} tensors in ${result.format}, in ${out}`);
}
