import { basename, dirname } from "node:path";
import * as v from "valibot";
import { memoryByMethod } from "../../analysis/memory";
import { readJson } from "../../io/json";
import { createModel } from "../../model/families";
import { openDirectory } from "../../node/index";
import { methodMemoryFigure } from "../../report/analysis/memory";
import { ANALYZE_MEMORY } from "../flags";
import { readOptions } from "../options";
import type { Print, RawOptions } from "../options";
import { checkResults, saveResults } from "./results";

const CONFIG = v.record(v.string(), v.unknown());

/** `safetape analyze memory`: the planned memory of seven methods by category, from a configuration alone. */
export async function memoryCommand(raw: RawOptions, print: Print): Promise<void> {
  const options = readOptions(ANALYZE_MEMORY, raw);
  await checkResults(options.out, "memory", raw);
  const { config: path, batch, maxLength, rank = 4, freezeBelow } = options;
  const config = await readJson(await openDirectory(dirname(path)), basename(path), CONFIG);
  const model = createModel(config);
  const length = model.image ? model.maxLength : Math.min(maxLength, model.maxLength);
  const frozen = freezeBelow ?? Math.floor(model.layers / 2);
  const methods = memoryByMethod({ config, batch, length, rank, freezeBelow: frozen });
  const rows = methods.map(({ bytes, ...numbers }) => ({ ...numbers, ...bytes }));
  const figure = methodMemoryFigure(methods, `${batch} x ${length} tokens with ${path}`);
  const out = await openDirectory(options.out, { create: true });
  await saveResults(out, "memory", raw, { record: { methods }, rows, figure }, print);
}
