import { readPreprocessor } from "../data/preprocessor";
import { loadTokenizer } from "../data/tokenizer";
import { jsonBytes } from "../io/json";
import { createEngine, loadModel, openDirectory } from "../node/index";
import { textOption, UsageError } from "./options";
import type { Given } from "./options";
import { finishedPart } from "./parts";
import { readStudy } from "./study-file";
import type { Study, StudyMethod, StudyTask } from "./study-file";
import { runMethod } from "./study-run";
import type { RunResult } from "./study-run";
import { studyMarkdown, studyRows } from "./study-table";
import type { StudyRun } from "./study-table";
import { readTask, taskHead } from "./train-data";
import type { TaskData } from "./task-data";
import { Screen } from "./view/screen";
import { stagesOn } from "./view/stage";

const encoder = new TextEncoder();

/**
 * `safetape study`: runs methods x tasks x seeds, one file a run, and writes the table. Runs whose file is there, with the
 * same settings, are not run again.
 */
export async function studyCommand(
  path: string | undefined,
  given: Given,
  print: (line: string) => void,
): Promise<void> {
  if (path === undefined) throw new UsageError("No study is named.", "safetape study STUDY.json");
  const study = await readStudy(path);
  const out = await openDirectory(textOption(given, "out", "--out", `${study.name}-output`), { create: true });
  const all = study.tasks.flatMap((task) =>
    study.seeds.flatMap((seed) => study.methods.map((method) => ({ task, seed, method }))),
  );
  const screen = new Screen(false);
  const watched = stagesOn(screen);
  using engine = await createEngine();
  const tokenizer = async () => loadTokenizer(await openDirectory(study.model));
  const preprocessor = async () => readPreprocessor(await openDirectory(study.model));
  const runs: StudyRun[] = [];
  const loaded = new Map<string, TaskData>();
  for (const [index, { task, seed, method }] of all.entries()) {
    const file = `${fileName(task.name)}--${fileName(method.name)}--${seed}.json`;
    const settings = settingsOf(study, task, method, seed);
    let result = await finishedPart<RunResult>(out, file, settings);
    const isKept = result !== undefined;
    if (!result) {
      const head = await taskHead(task.task, task.data);
      using model = await watched("loading weights", (tick) =>
        loadModel(engine, study.model, { ...head, weights: method.weights, onProgress: tick }),
      );
      const maxLength = Math.min(task.maxLength, model.model.maxLength);
      const data =
        loaded.get(task.name) ??
        (await readTask(task.task, { path: task.data, model: model.model, maxLength, tokenizer, preprocessor }));
      loaded.set(task.name, data);
      const what = `${index + 1}/${all.length}  ${task.name}  ${method.name}  seed ${seed}`;
      result = await watched(what, (tick) => runMethod(model, study, task, method, seed, data, tick));
      await out.write(file, jsonBytes({ settings, gpu: engine.info, result }));
    }
    runs.push({ method: method.name, task: task.name, seed, result });
    const metrics = Object.entries(result.metrics).map(([name, value]) => `${name} ${value.toFixed(4)}`);
    const how = isKept ? "kept" : `${result.seconds.toFixed(0)} s`;
    screen.say(`${index + 1}/${all.length}  ${task.name}  ${method.name}  seed ${seed}  ${metrics.join("  ")}  ${how}`);
  }
  screen.end();
  const rows = studyRows(study, runs);
  await out.write("table.md", encoder.encode(`${studyMarkdown(rows)}\n`));
  await out.write("table.json", jsonBytes({ gpu: engine.info, study, rows }));
  print(given["json"] ? JSON.stringify({ rows, out: out.name }) : studyMarkdown(rows));
}

const fileName = (name: string): string => name.replace(/[^\w.+-]+/g, "-");

/** All that a run's outcome depends on. */
function settingsOf(study: Study, task: StudyTask, method: StudyMethod, seed: number): Record<string, unknown> {
  const { maxGradNorm, warmupRatio } = study;
  return { model: study.model, maxGradNorm, warmupRatio, task, method, seed };
}
