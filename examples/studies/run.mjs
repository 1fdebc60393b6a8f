// Runs one of the studies on real data: checks data and base, then runs what is missing of its methods and seeds, a file for each run.
//
//   npm run study:images [-- OPTIONS OF safetape study]      bench/results/evidence/images unless --out says otherwise
//   npm run study:glue
//   npm run study:generation
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { commit } from "../../scripts/provenance.mjs";
import { foldersOf, readData } from "../bases/data.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

const GLUE = ["SST-2", "MRPC", "STS-B", "CoLA"];

/** The data set of each study, those of its files that it reads if not all, and the base. The study's file has its name. */
const STUDIES = {
  images: { data: "fashionMnist", base: "vit", plugins: ["fashion.mjs", "rising-horizon.mjs"] },
  glue: {
    data: "texts",
    files: GLUE.flatMap((task) => ["train", "dev"].map((part) => `glue/${task}/${part}.tsv`)),
    base: "bert",
    plugins: [],
  },
  generation: {
    data: "texts",
    files: ["trainset.csv.gz", "devset.csv", "testset_w_refs.csv"].map((file) => `e2e_nlg/${file}`),
    base: "gpt2",
    plugins: [],
  },
};

async function main([name = "", ...options]) {
  if (!Object.hasOwn(STUDIES, name)) {
    throw new Error(`There is no study "${name}".\nThe studies are ${Object.keys(STUDIES).join(", ")}.`);
  }
  const { data, files, base, plugins } = STUDIES[name];
  await readData(data, files);
  checkBase(base);
  const at = options.indexOf("--out");
  const out = at < 0 ? here(`../../bench/results/evidence/${name}`) : options[at + 1];
  noteStart(out);
  const given = [...plugins.flatMap((file) => ["--plugin", here(file)]), ...(at < 0 ? ["--out", out] : []), ...options];
  const { status } = spawnSync(
    process.execPath,
    [here("../../dist/cli.js"), "study", studyFile(name, data), ...given],
    {
      stdio: "inherit",
    },
  );
  process.exitCode = status ?? 1;
}

/** The study's file, or where the data are not in their usual folder, a copy that says where they are. */
function studyFile(name, data) {
  const file = here(`${name}.json`);
  const { folder, usual } = foldersOf(data);
  if (folder === usual) return file;
  const study = JSON.parse(readFileSync(file, "utf8"));
  const tasks = study.tasks.map((task) => ({
    ...task,
    data: join(folder, relative(usual, resolve(here("."), task.data))),
  }));
  const copy = join(mkdtempSync(join(tmpdir(), "safetape-study-")), `${name}.json`);
  writeFileSync(copy, JSON.stringify({ ...study, model: resolve(here("."), study.model), tasks }));
  return copy;
}

/** @throws Error for a base that is missing, or whose weights are not those that its record names. */
function checkBase(base) {
  const folder = here(`../bases/${base}`);
  const remedy = `Make it: node examples/bases/pretrain.mjs ${base} examples/bases/${base}`;
  const [record, weights] = ["base.json", "model.safetensors"].map((file) => join(folder, file));
  if (!existsSync(record) || !existsSync(weights)) throw new Error(`${folder} is not a finished base.\n${remedy}`);
  const sum = createHash("sha256").update(readFileSync(weights)).digest("hex");
  if (sum === JSON.parse(readFileSync(record, "utf8")).weights) return;
  throw new Error(`${weights} has other weights than ${record} says.\n${remedy}`);
}

/** Of which commit the code was that began or continued a study; its results alone do not say. */
function noteStart(out) {
  const file = join(out, "starts.json");
  const starts = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : [];
  mkdirSync(out, { recursive: true });
  const start = { commit: commit(), at: new Date().toISOString() };
  if (starts.at(-1)?.commit !== start.commit)
    writeFileSync(file, `${JSON.stringify([...starts, start], undefined, 1)}\n`);
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
