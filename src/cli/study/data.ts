import { DataError } from "../../base/errors";
import type { WordNet } from "../../data/wordnet";
import type { Model } from "../../model/model";
import { fillingOf, preprocessing } from "../tasks/task-data";
import type { TaskData } from "../tasks/task-data";
import { readTask } from "../tasks/tasks";
import type { Study, StudyTask } from "./file";
import { exampleChooser } from "./regimes";
import type { SplitCounts } from "./regimes";

/** The data of a task: its dev sets are what the study decides by, and what it scores. */
export interface StudyData {
  readonly validation: TaskData;
  readonly test: TaskData;
  readonly counts: SplitCounts;
}

/** Training examples that a task takes; undefined for all. */
export const trainingExamples = ({ regime, examples }: StudyTask): number | undefined => regime?.examples ?? examples;

/** Reads the data of a task. @throws DataError without a dev set, or where there are too few examples. */
export async function readStudyData(
  study: Study,
  task: StudyTask,
  model: Model,
  wordNet: WordNet | undefined,
): Promise<StudyData> {
  const { beta, lossType, labelSmoothing } = task;
  const options = {
    path: study.resolve(task.data),
    dpo:
      task.task === "dpo"
        ? { labelSmoothing, ...(beta !== undefined && { beta }), ...(lossType !== undefined && { loss: lossType }) }
        : undefined,
    labelSmoothing,
    model,
    eachAnswer: task.eachAnswer,
    maxLength: Math.min(task.maxLength, model.maxLength),
    wordNet: task.generate?.meteor === "wordnet" ? wordNet : undefined,
    ...fillingOf(task),
    ...preprocessing(study.resolve(study.model)),
  };
  const { split } = study;
  const amount = { name: task.name, examples: trainingExamples(task) };
  const counts: SplitCounts = {};
  const validation = await readTask(task.task, {
    ...options,
    choose: exampleChooser(amount, split, "validation", counts),
  });
  if (!validation.dev) {
    throw new DataError(`${task.data} has no dev set`, "a study needs one to evaluate on: add its file");
  }
  const test = await readTask(task.task, {
    ...options,
    choose: exampleChooser(amount, split, "test", counts),
    evaluateOnly: true,
    evaluateOn: "test",
    labelNames: validation.labelNames,
  });
  return { validation, test, counts };
}
