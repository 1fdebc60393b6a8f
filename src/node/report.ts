import type { DirectoryLike } from "../io/directory-like";
import type { RunRecord } from "../report/record";
import type { ReportOptions } from "../report/save";

/**
 * Writes a run's report into a directory, which is created if necessary: `report.html`, `run.json`, the numbers as CSV and,
 * with `png`, the figures as PNG. The libraries that draw are loaded by the first call.
 * @returns the names of the files.
 * @throws ConfigError if `png` is set and `@resvg/resvg-js` is not installed.
 */
export async function saveReport(
  directory: DirectoryLike,
  record: RunRecord,
  options?: ReportOptions,
): Promise<string[]> {
  const drawing = await import("../report/save");
  return drawing.saveReport(directory, record, options);
}
