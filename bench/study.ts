import { tmpdir } from "node:os";
import { join } from "node:path";
import { studyCommand } from "../src/cli/study/command";
import { readStudy } from "../src/cli/study/file";
import type { CellResult } from "../src/cli/study/results";
import type { StudyRow } from "../src/cli/study/tables";
import { parseJson } from "../src/io/json";
import { openDirectory } from "../src/node/index";
import { writeResults } from "./support/results";

/** Where the runs of a study stay, so that an interrupted bench continues; the second argument, if there is one. */
const [path = "examples/studies/methods.json", out = join(tmpdir(), "safetape-studies")] = process.argv.slice(2);

const study = await readStudy(path);
const folder = join(out, study.name);
await studyCommand(path, { out: folder }, (line) => console.log(line));

// `studyCommand` has just written it.
const table = parseJson(await (await openDirectory(folder)).read("table.json"), "table.json") as {
  readonly gpus: readonly CellResult["gpu"][];
  readonly study: unknown;
  readonly rows: readonly StudyRow[];
};
const [info] = table.gpus;
const adapters = new Set(table.gpus.map(({ description }) => description));
if (!info || adapters.size > 1) throw new Error(`${folder} has runs of ${[...adapters].join(" and ")}.`);
await writeResults({ info }, `study-${study.name}`, { study: table.study, rows: table.rows });
