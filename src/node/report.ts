import type { Directory } from "../io/directory";
import type { RunRecord } from "../report/record";
import type { ReportOptions } from "../report/save";
import { openDirectory } from "./directory";

/**
 * Writes a run's report into a directory, which is made if need be: `report.html`, `run.json`, the numbers as CSV and, with
 * `png`, its figures. What draws is loaded here, not before.
 * @returns the files' names. @throws ConfigError when PNGs are wanted and cannot be made.
 */
export async function saveReport(
  directory: string | Directory,
  record: RunRecord,
  options?: ReportOptions,
): Promise<string[]> {
  const drawing = await import("../report/save");
  const out = typeof directory === "string" ? await openDirectory(directory, { create: true }) : directory;
  return drawing.saveReport(out, record, options);
}
