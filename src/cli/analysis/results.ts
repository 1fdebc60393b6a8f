import { stat } from "node:fs/promises";
import { join } from "node:path";
import * as v from "valibot";
import type { AdapterInfo } from "../../gpu/device";
import type { Directory } from "../../io/directory";
import { jsonBytes, readJson } from "../../io/json";
import { openDirectory } from "../../node/directory";
import { csvText } from "../../report/csv";
import { pngRenderer } from "../../report/png";
import { standaloneSvg } from "../../report/svg";
import type { Figure } from "../../report/svg";
import { checkFile } from "../earlier-results";
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

/** The options that decide what the results are. */
function optionsOf({
  out: _out,
  overwrite: _overwrite,
  saved: _saved,
  png: _png,
  quiet: _quiet,
  json: _json,
  ...options
}: RawOptions): RawOptions {
  return options;
}

const RECORD = v.looseObject({ options: v.record(v.string(), v.unknown()) });

/** @throws UsageError for a folder that has `NAME.json` of other options, unless `--overwrite` is given. The same options give the same results. */
export async function checkResults(path: string | undefined, name: string, raw: RawOptions): Promise<void> {
  const file = `${name}.json`;
  if (path === undefined || raw["overwrite"] === true) return;
  const isThere = (await stat(join(path, file)).catch(() => undefined)) !== undefined;
  if (!isThere) return;
  const saved = await readJson(await openDirectory(path), file, RECORD);
  if (JSON.stringify(saved.options) !== JSON.stringify(optionsOf(raw))) await checkFile(join(path, file));
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
  const options = optionsOf(raw);
  const encoder = new TextEncoder();
  const files = [
    { file: `${name}.json`, content: jsonBytes({ options, ...(gpu && { gpu }), ...record }) },
    { file: `${name}.csv`, content: encoder.encode(csvText(rows)) },
    { file: `${name}.svg`, content: encoder.encode(svg) },
    ...(render ? [{ file: `${name}.png`, content: render(svg) }] : []),
  ];
  await out.writeTogether(files);
  // A picture of earlier results is none of these.
  if (!render) await out.remove?.(`${name}.png`);
  if (raw["json"]) print(JSON.stringify({ ...record, out: out.name, files: files.map(({ file }) => file) }));
  else print(`saved in ${out.name}: ${files.map(({ file }) => file).join(", ")}`);
}
