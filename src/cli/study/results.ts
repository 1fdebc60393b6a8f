import { ConfigError } from "../../base/errors";
import type { AdapterInfo } from "../../gpu/device";
import type { Directory } from "../../io/directory";
import { jsonBytes, parseJson } from "../../io/json";
import type { StudyCell } from "./cells";
import type { Study } from "./file";
import { sharedOptions } from "./record";
import type { RunResult } from "./run";

/** What the file of a finished cell contains. */
export interface CellResult {
  readonly gpu: AdapterInfo;
  readonly result: RunResult;
}

/** All settings that the result of a cell depends on. */
const settingsOf = (study: Study, { task, method, seed }: StudyCell): Record<string, unknown> => {
  return { ...sharedOptions(study), task, method, seed };
};

/** The result of a cell that has ended. @throws ConfigError for one with other settings. */
export async function cellResult(out: Directory, study: Study, cell: StudyCell): Promise<CellResult | undefined> {
  const file = `${cell.file}.json`;
  if ((await out.size(file)) === undefined) return undefined;
  // Files with equal settings were written by `saveCell`, so that the rest has its type.
  const saved = parseJson(await out.read(file), file) as (CellResult & { readonly settings?: unknown }) | null;
  if (saved && JSON.stringify(saved.settings) === JSON.stringify(settingsOf(study, cell))) return saved;
  throw new ConfigError(
    `${file} in ${out.name} is a result with other settings than the study has now.`,
    "Give another --out, or remove that file.",
  );
}

/** Writes the result of a cell. */
export function saveCell(out: Directory, study: Study, cell: StudyCell, result: CellResult): Promise<void> {
  return out.write(`${cell.file}.json`, jsonBytes({ settings: settingsOf(study, cell), ...result }));
}
