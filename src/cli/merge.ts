import { mergeAdapters } from "../adapter/merge-adapters";
import type { WeightedAdapter } from "../adapter/merge-adapters";
import { openDirectory } from "../node/index";
import { MERGE } from "./flags";
import { readOptions, UsageError } from "./options";
import type { Print, RawOptions } from "./options";

/** `safetape merge`: several LoRA adapters as one. */
export async function mergeCommand(places: readonly string[], raw: RawOptions, print: Print): Promise<void> {
  const { out, json, majoritySignMethod: majoritySign, ...options } = readOptions(MERGE, raw);
  if (places.length === 0) throw new UsageError("No adapters are named.", "Name directories: DIR or DIR:WEIGHT ...");
  const adapters: WeightedAdapter[] = [];
  for (const place of places) {
    // A weight is what follows the last colon, if it is a number: paths may have colons.
    const [, path = place, weight] = /^(.+):([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)$/i.exec(place) ?? [];
    adapters.push({ adapter: await openDirectory(path), ...(weight !== undefined && { weight: Number(weight) }) });
  }
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const result = await mergeAdapters(adapters, out, { ...given, ...(majoritySign && { majoritySign }) });
  const { baseModels } = result;
  if (!json && baseModels.length > 1) {
    print(`note: the adapters name different base models (${baseModels.join(", ")}); only shapes were compared`);
  }
  print(json ? JSON.stringify(result) : `LoRA of rank ${result.rank} in ${result.modules} modules, in ${out}`);
}
