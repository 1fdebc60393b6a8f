import type { Directory } from "../io/directory";
import type { RunRecord } from "../report/record";
import type { ReportOptions } from "../report/save";
import { openDirectory } from "./directory";

/**
 * Writes a run's report into a directory, which is created if necessary: `report.html`, `run.json`, the numbers as CSV and,
 * with `png`, the figures as PNG. The libraries that draw are loaded by the first call.
 * @returns the names of the files.
 * @throws ConfigError if `png` is set and `@resvg/resvg-js` is not installed.
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
