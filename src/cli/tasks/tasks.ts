import { GLUE_TASKS, isGlueTask } from "../../data/glue-tasks";
import type { HeadOptions } from "../../model/families";
import { UsageError } from "../options";
import { classNames, readCifarTask, readImagesTask } from "./images";
import type { TaskData, TaskOptions } from "./task-data";
import { readChatTask, readE2eTask, readGlueTask, readSquadTask, readTextTask } from "./text";

/** Readers of the tasks that are not GLUE tasks. */
const OTHER_TASKS: Readonly<Record<string, (options: TaskOptions) => Promise<TaskData>>> = {
  lm: readTextTask,
  squad: readSquadTask,
  e2e: readE2eTask,
  chat: readChatTask,
  cifar10: (options) => readCifarTask(10, options),
  cifar100: (options) => readCifarTask(100, options),
  images: readImagesTask,
};

/** Names of all tasks. */
export const TASKS: readonly string[] = [...Object.keys(GLUE_TASKS), ...Object.keys(OTHER_TASKS)];

const unknownTask = (task: string): UsageError =>
  new UsageError(`--task is ${task}.`, `It may be ${TASKS.join(", ")}.`);

/**
 * The head of a model for a task whose data are at `path`.
 * @throws UsageError for an unknown task, DataError for images without class folders.
 */
export async function taskHead(task: string, path: string): Promise<HeadOptions> {
  if (task === "images") return { task: "image_classification", labels: (await classNames(path)).length };
  if (task === "cifar10") return { task: "image_classification", labels: 10 };
  if (task === "cifar100") return { task: "image_classification", labels: 100 };
  if (task === "squad") return { task: "question_answering" };
  if (Object.hasOwn(OTHER_TASKS, task)) return { task: "causal_lm" };
  if (!isGlueTask(task)) throw unknownTask(task);
  const labels = GLUE_TASKS[task].labels?.length;
  return labels === undefined ? { task: "regression" } : { task: "sequence_classification", labels };
}

/** Reads the files of a task. @throws UsageError for an unknown task. */
export async function readTask(task: string, options: TaskOptions): Promise<TaskData> {
  const read = Object.hasOwn(OTHER_TASKS, task) ? OTHER_TASKS[task] : undefined;
  if (read) return read(options);
  if (!isGlueTask(task)) throw unknownTask(task);
  return readGlueTask(task, options);
}
