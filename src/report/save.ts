import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";
import { jsonBytes } from "../io/json";
import { csvFiles } from "./csv";
import { figures } from "./figures/index";
import { reportHtml } from "./html";
import { pngRenderer } from "./png";
import { RECORD_FILE, REPORT_FILE } from "./record";
import type { RunRecord } from "./record";
import { standaloneSvg } from "./svg";

export interface ReportOptions {
  /** Whether to save the figures as PNG files, too. Needs `@resvg/resvg-js`. Default false. */
  readonly png?: boolean;
}

/**
 * Writes a run's record (`run.json`), its numbers as CSV, its report (`report.html`) and, with `png`, its figures as PNG.
 * The record is written first, so that an error while drawing does not lose it.
 * @returns the names of the files.
 * @throws ConfigError if `png` is set and `@resvg/resvg-js` is not installed, before anything is written.
 */
export async function saveReport(
  place: DirectoryLike,
  record: RunRecord,
  { png = false }: ReportOptions = {},
): Promise<string[]> {
  const out = await directoryAt(place, { create: true });
  const encoder = new TextEncoder();
  const render = png ? await pngRenderer() : undefined;
  const data = [
    ...csvFiles(record).map(({ file, text }) => ({ file, content: encoder.encode(text) })),
    { file: RECORD_FILE, content: jsonBytes(record) },
  ];
  await out.writeTogether(data);
  const drawings = [
    ...(render ? pictures(record).map(({ file, svg }) => ({ file, content: render(svg) })) : []),
    { file: REPORT_FILE, content: encoder.encode(reportHtml(record)) },
  ];
  await out.writeTogether(drawings);
  return [...data, ...drawings].map(({ file }) => file);
}

/** The figures of a run as SVG files. `file` is the name of the PNG file that is made of it. */
export function pictures(record: RunRecord): { readonly file: string; readonly svg: string }[] {
  const run = `${record.title}, ${record.gpu.description || record.gpu.device}`;
  return figures(record).map((figure) => ({ file: `${figure.name}.png`, svg: standaloneSvg(figure, run) }));
}
