import { DataError } from "../../base/errors";
import type { WordNet } from "../../data/wordnet";
import type { Model } from "../../model/model";
import { preprocessing } from "../tasks/task-data";
import type { TaskData } from "../tasks/task-data";
import { readTask } from "../tasks/tasks";
import type { Study, StudyTask } from "./file";
import { checkWasSplit, splitChooser } from "./regimes";
import type { SplitCounts } from "./regimes";

/** The data of a task: its dev sets are what the study decides by, and what it scores. */
export interface StudyData {
  readonly validation: TaskData;
  readonly test: TaskData;
  /** Sizes of the parts; undefined without a split. */
  readonly counts: SplitCounts | undefined;
}

/** Reads the data of a task. @throws DataError without a dev set, or where there are too few examples. */
export async function readStudyData(
  study: Study,
  task: StudyTask,
  model: Model,
  wordNet: WordNet | undefined,
): Promise<StudyData> {
  const options = {
    path: study.resolve(task.data),
    model,
    maxLength: Math.min(task.maxLength, model.maxLength),
    wordNet: task.generate?.meteor === "wordnet" ? wordNet : undefined,
    ...preprocessing(study.resolve(study.model)),
  };
  const { split } = study;
  const counts: SplitCounts | undefined = split && {};
  const read = (part: "validation" | "test"): Promise<TaskData> => {
    if (!split || !counts) return readTask(task.task, options);
    const choose = splitChooser(task.name, { regime: task.regime, split }, part, counts);
    return readTask(task.task, { ...options, choose });
  };
  const validation = await read("validation");
  if (!validation.dev)
    throw new DataError(`${task.data} has no dev set`, "a study needs one to evaluate on: add its file");
  if (counts) checkWasSplit(task.name, counts);
  return { validation, test: split ? await read("test") : validation, counts };
}
