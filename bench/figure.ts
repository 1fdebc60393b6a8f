import { writeFile } from "node:fs/promises";
import { makeAdapter } from "../src/adapter/make";
import { readStudy } from "../src/cli/study/file";
import type { Study, StudyMethod } from "../src/cli/study/file";
import { readTask } from "../src/cli/tasks/tasks";
import type { TaskData } from "../src/cli/tasks/task-data";
import { loadTokenizer } from "../src/data/tokenizer";
import type { Engine } from "../src/engine";
import { makePolicy } from "../src/freeze/make";
import { sumBytes } from "../src/gpu/ledger";
import type { LoadedModel } from "../src/io/load-model";
import { loadModel, openDirectory } from "../src/node/index";
import type { StepReport } from "../src/train/loop/reports";
import { Trainer } from "../src/train/trainer";
import { csvText } from "../src/report/csv";
import { pngRenderer } from "../src/report/png";
import { standaloneSvg } from "../src/report/svg";
import { main } from "./support/main";
import { adapterName, writeResults } from "./support/results";
import { stepLines } from "./support/step-lines";
import type { StepPoint } from "./support/step-lines";

const STUDY = "examples/studies/methods.json";
const METHODS = ["LoRA", "LoRA + SAFE", "LoRA + SAFE, scores of warm-up", "AFLoRA"];
const SEED = 1;
const FILE = "bench/results/memory-over-steps";
const MEGA = 1e6;

/** GPU bytes by lifetime after one step of one method and after the freezes of that step. */
type Row = ReturnType<typeof rowOf>;

/** Draws GPU memory over the steps of LoRA, SAFE and AFLoRA, trained as in the methods study on the shipped task. */
export async function figure(engine: Engine): Promise<void> {
  const study = await readStudy(STUDY);
  const task = study.tasks[0]!;
  using model = await loadModel(engine, study.resolve(study.model));
  const tokenizer = async () => loadTokenizer(await openDirectory(study.resolve(study.model)));
  const preprocessor = () => Promise.reject(new Error("A task of texts has no images."));
  const options = {
    path: study.resolve(task.data),
    model: model.model,
    maxLength: task.maxLength,
    tokenizer,
    preprocessor,
  };
  const data = await readTask(task.task, options);
  const rows: Row[] = [];
  for (const name of METHODS) {
    const method = study.methods.find((candidate) => candidate.name === name);
    if (!method) throw new Error(`${STUDY} has no method ${name}.`);
    rows.push(...(await rowsOf(model, study, method, data)));
    console.log(`${name}: ${task.steps} steps`);
  }
  const chart = stepLines({
    name: "memory-over-steps",
    title: `GPU memory over training: BERT of ${model.model.layers} layers on ${task.name}`,
    caption: `The complete freezing schedule of each method, as in ${STUDY}, on less than an epoch of the data.`,
    mark: "a freeze that returned bytes",
    panels: [
      { y: "all: weights, state, saved, scratch (MB)", points: pointsOf(rows, "total") },
      { y: "saved from forward to backward (MB)", points: pointsOf(rows, "saved") },
    ],
  });
  const origin = `Live bytes after each step, as the ledger counts them, on ${adapterName(engine)}; batches of ${task.batch}, one seed.`;
  const svg = standaloneSvg(chart, origin);
  await writeFile(`${FILE}.svg`, svg);
  await writeFile(`${FILE}.png`, (await pngRenderer())(svg));
  await writeFile(`${FILE}.csv`, csvText(rows));
  const summaries = METHODS.map((name) => summaryOf(rows.filter(({ method }) => method === name)));
  console.table(summaries);
  await writeResults(engine, "memory-over-steps", summaries);
}

async function rowsOf(model: LoadedModel, study: Study, method: StudyMethod, data: TaskData): Promise<Row[]> {
  const task = study.tasks[0]!;
  const { learningRate } = method;
  const { steps } = task;
  if (typeof learningRate !== "number" || steps === undefined)
    throw new Error(`${STUDY} is not what this bench expects.`);
  using trainer = await Trainer.create({
    model,
    adapter: makeAdapter(method.adapter),
    policy: makePolicy(method.freeze),
    seed: SEED,
    data: data.train(task.batch, SEED),
    steps,
    optimizer: { learningRate, maxGradNorm: study.maxGradNorm },
    schedule: { type: "linear", warmupRatio: study.warmupRatio },
  });
  const rows: Row[] = [];
  for await (const report of trainer.steps()) rows.push(rowOf(method.name, report));
  return rows;
}

function rowOf(method: string, { step, bytes, freezes, horizon, frozenTensors, loss }: StepReport) {
  const returned = freezes.reduce((sum, { returnedBytes }) => sum + returnedBytes, 0);
  return { method, step, ...bytes, total: sumBytes(bytes), returned, horizon: horizon ?? "", frozenTensors, loss };
}

function pointsOf(rows: readonly Row[], key: "total" | "saved"): StepPoint[] {
  return rows.map(({ method, step, returned, ...row }) => {
    return { series: method, step, value: row[key] / MEGA, isMarked: returned > 0 };
  });
}

function summaryOf(rows: readonly Row[]) {
  const [first, last] = [rows[0]!, rows.at(-1)!];
  const totals = rows.map(({ total }) => total);
  return {
    method: first.method,
    steps: rows.length,
    totalFirst: first.total,
    totalLast: last.total,
    totalMost: Math.max(...totals),
    totalMean: Math.round(totals.reduce((a, b) => a + b, 0) / rows.length),
    savedFirst: first.saved,
    savedLast: last.saved,
    frozenTensors: last.frozenTensors,
    freezes: rows.filter(({ returned }) => returned > 0).length,
    returnedByFreezes: rows.reduce((sum, { returned }) => sum + returned, 0),
  };
}

await main("figure", figure);
