import type { Directory } from "../io/directory";
import { parseJson } from "../io/json";

/** The result of a part of some work that was finished with these very settings: what need not be run again. */
export async function finishedPart<T>(out: Directory, file: string, settings: object): Promise<T | undefined> {
  if ((await out.size(file)) === undefined) return undefined;
  const told = parseJson(await out.read(file), file) as { settings?: unknown; result?: T } | null;
  return JSON.stringify(told?.settings) === JSON.stringify(settings) ? told?.result : undefined;
}
