import type { Directory } from "../io/directory";
import { parseJson } from "../io/json";

/** The result of a run that finished earlier with exactly these settings, or undefined if it has to run. */
export async function finishedResult<T>(out: Directory, file: string, settings: object): Promise<T | undefined> {
  if ((await out.size(file)) === undefined) return undefined;
  // Files with equal settings were written by the same command, so that `result` has its type.
  const saved = parseJson(await out.read(file), file) as { settings?: unknown; result?: T } | null;
  return JSON.stringify(saved?.settings) === JSON.stringify(settings) ? saved?.result : undefined;
}
