import { jsonBytes } from "../../io/json";
import { createEngine, loadModel, openDirectory } from "../../node/index";
import { finishedResult } from "../finished-run";
import { STUDY, wordNetFor } from "../flags";
import { readOptions, UsageError } from "../options";
import type { Print, RawOptions } from "../options";
import { readStudy } from "./file";
import type { Study, StudyMethod, StudyTask } from "./file";
import { runMethod } from "./run";
import type { RunResult } from "./run";
import { studyMarkdown, studyRows } from "./tables";
import type { StudyRun } from "./tables";
import { preprocessing } from "../tasks/task-data";
import type { TaskData } from "../tasks/task-data";
import { readTask, taskHead } from "../tasks/tasks";
import { progressOn } from "../view/progress";
import { metricWords } from "../view/run-view";
import { Screen } from "../view/screen";

/**
 * `safetape study`: runs methods x tasks x seeds, writes one file per run, and prints the table. A run whose file exists
 * with the same settings is not run again.
 */
export async function studyCommand(path: string | undefined, raw: RawOptions, print: Print): Promise<void> {
  if (path === undefined) throw new UsageError("No study is named.", "Give its file: safetape study STUDY.json.");
  const study = await readStudy(path);
  const { out: outPath = `${study.name}-output`, json } = readOptions(STUDY, raw);
  // A missing package is reported before the first run.
  const needsWordNet = study.tasks.some(({ generate }) => generate?.meteor === "wordnet");
  const wordNet = await wordNetFor(needsWordNet ? "wordnet" : "variant");
  const out = await openDirectory(outPath, { create: true });
  const cases = study.tasks.flatMap((task) =>
    study.seeds.flatMap((seed) => study.methods.map((method) => ({ task, seed, method }))),
  );
  const screen = new Screen(false);
  const progress = progressOn(screen);
  using engine = await createEngine();
  const runs: StudyRun[] = [];
  const dataByTask = new Map<string, TaskData>();
  for (const [index, { task, seed, method }] of cases.entries()) {
    const title = `${index + 1}/${cases.length}  ${task.name}  ${method.name}  seed ${seed}`;
    const file = `${fileName(task.name)}--${fileName(method.name)}--${seed}.json`;
    const settings = settingsOf(study, task, method, seed);
    const finished = await finishedResult<RunResult>(out, file, settings);
    let result = finished;
    if (!result) {
      const head = await taskHead(task.task, task.data);
      using loaded = await progress("loading weights", (onProgress) =>
        loadModel(engine, study.model, { ...head, weights: method.weights, onProgress }),
      );
      const { model } = loaded;
      const maxLength = Math.min(task.maxLength, model.maxLength);
      const data =
        dataByTask.get(task.name) ??
        (await readTask(task.task, {
          path: task.data,
          model,
          maxLength,
          wordNet: task.generate?.meteor === "wordnet" ? wordNet : undefined,
          ...preprocessing(study.model),
        }));
      dataByTask.set(task.name, data);
      result = await progress(title, (onProgress) => runMethod(loaded, study, task, method, seed, data, onProgress));
      await out.write(file, jsonBytes({ settings, gpu: engine.info, result }));
    }
    runs.push({ method: method.name, task: task.name, seed, result });
    screen.say(`${title}  ${metricWords(result.metrics)}  ${finished ? "reused" : `${result.seconds.toFixed(0)} s`}`);
  }
  screen.end();
  const rows = studyRows(study, runs);
  const table = studyMarkdown(rows);
  await out.write("table.md", new TextEncoder().encode(`${table}\n`));
  await out.write("table.json", jsonBytes({ gpu: engine.info, study, rows }));
  print(json ? JSON.stringify({ rows, out: out.name }) : table);
}

const fileName = (name: string): string => name.replace(/[^\w.+-]+/g, "-");

/** All settings that the result of a run depends on. */
function settingsOf(study: Study, task: StudyTask, method: StudyMethod, seed: number): Record<string, unknown> {
  const { model, maxGradNorm, warmupRatio } = study;
  return { model, maxGradNorm, warmupRatio, task, method, seed };
}
