import type { AdapterInfo } from "../../gpu/device";
import type { Directory } from "../../io/directory";
import { jsonBytes } from "../../io/json";
import { csvText } from "../../report/csv";
import { pngRenderer } from "../../report/png";
import { standaloneSvg } from "../../report/svg";
import type { Figure } from "../../report/svg";
import type { Print, RawOptions } from "../options";

/** The results of an analysis. */
export interface Results {
  /** All results, for `NAME.json`. */
  readonly record: object;
  /** The numbers as rows, for `NAME.csv`. */
  readonly rows: readonly object[];
  readonly figure: Figure;
  readonly gpu?: AdapterInfo;
}

/** Writes `NAME.json`, `NAME.csv`, `NAME.svg` and, with `--png`, `NAME.png`, all of them or none, and prints their names. */
export async function saveResults(
  out: Directory,
  name: string,
  raw: RawOptions,
  { record, rows, figure, gpu }: Results,
  print: Print,
): Promise<void> {
  const render = raw["png"] ? await pngRenderer() : undefined;
  const svg = standaloneSvg(figure, figure.caption);
  const { out: _out, saved: _saved, png: _png, quiet: _quiet, json: _json, ...options } = raw;
  const encoder = new TextEncoder();
  const files = [
    { file: `${name}.json`, content: jsonBytes({ options, ...(gpu && { gpu }), ...record }) },
    { file: `${name}.csv`, content: encoder.encode(csvText(rows)) },
    { file: `${name}.svg`, content: encoder.encode(svg) },
    ...(render ? [{ file: `${name}.png`, content: render(svg) }] : []),
  ];
  await out.writeTogether(files);
  if (raw["json"]) print(JSON.stringify({ ...record, out: out.name, files: files.map(({ file }) => file) }));
  else print(`saved in ${out.name}: ${files.map(({ file }) => file).join(", ")}`);
}
