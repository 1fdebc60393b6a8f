import type { Directory } from "../io/directory";
import { jsonBytes } from "../io/json";
import { csvFiles } from "./csv";
import { figures } from "./figures/index";
import { reportHtml } from "./html";
import { pngRenderer } from "./png";
import { RECORD_FILE } from "./record";
import type { RunRecord } from "./record";
import { standaloneSvg } from "./svg";

export interface ReportOptions {
  /** Figures as PNG files, too. Needs `@resvg/resvg-js`. Default false. */
  readonly png?: boolean;
}

/** The page of a run. */
export const REPORT_FILE = "report.html";

/**
 * Writes a run's record (`run.json`), its numbers as CSV, its report and, if asked, its figures as PNG. The record comes
 * first, so that nothing that happens while it is drawn loses it.
 * @returns the files' names. @throws ConfigError when PNGs are wanted and cannot be made; nothing is written then.
 */
export async function saveReport(out: Directory, record: RunRecord, { png = false }: ReportOptions = {}) {
  const encoder = new TextEncoder();
  const render = png ? await pngRenderer() : undefined;
  const data = [
    ...csvFiles(record).map(({ file, text }) => ({ file, content: encoder.encode(text) })),
    { file: RECORD_FILE, content: jsonBytes(record) },
  ];
  await out.writeTogether(data);
  const drawn = [
    ...(render ? pictures(record).map(({ file, svg }) => ({ file, content: render(svg) })) : []),
    { file: REPORT_FILE, content: encoder.encode(reportHtml(record)) },
  ];
  await out.writeTogether(drawn);
  return [...data, ...drawn].map(({ file }) => file);
}

/** A run's figures as they stand alone, by the names of their files. */
export function pictures(record: RunRecord): { readonly file: string; readonly svg: string }[] {
  const run = `${record.title}, ${record.gpu.description || record.gpu.device}`;
  return figures(record).map((one) => ({ file: `${one.name}.png`, svg: standaloneSvg(one, run) }));
}
