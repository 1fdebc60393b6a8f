import { AG_NEWS_CLASSES } from "../../data/ag-news";
import { GLUE_TASKS, isGlueTask } from "../../data/glue-tasks";
import { FASHION_MNIST_CLASSES } from "../../data/idx";
import type { HeadOptions } from "../../model/families";
import type { Task } from "../../model/model";
import { whyNotPacked } from "../../train/plans/trace";
import { UsageError } from "../options";
import { ADDED } from "../plugin/registries";
import { classNames, readCifarTask, readImagesTask, readMnistTask } from "./images";
import type { ChooseExamples, ReadOptions, Tagging, TaskData, TaskOptions } from "./task-data";
import { readDpoTask } from "./preferences";
import { readAgNewsTask, readChatTask, readE2eTask, readGlueTask, readPairsTask, readSamsumTask } from "./text";
import { readMaskedTask, readSquadTask, readTextTask } from "./text";
import { namesOfTags, readNerTask } from "./words";

/** A task that is not one of GLUE's. */
interface OtherTask {
  /** The head of a model for data at a path. */
  readonly head: (path: string, tagging: Tagging) => HeadOptions | Promise<HeadOptions>;
  /** The head's task, where the training data decide its labels. */
  readonly labelledByData?: Task;
  readonly read: (options: TaskOptions) => Promise<TaskData>;
}

const writer = (): HeadOptions => ({ task: "generation" });
const images = (labels: number) => (): HeadOptions => ({ task: "image_classification", labels });
const digits = Array.from({ length: 10 }, (_, digit) => String(digit));

const OTHER_TASKS: Readonly<Record<string, OtherTask>> = {
  agnews: {
    head: () => ({ task: "sequence_classification", labels: AG_NEWS_CLASSES.length }),
    read: readAgNewsTask,
  },
  lm: { head: writer, read: readTextTask },
  mlm: { head: () => ({ task: "masked_lm" }), read: readMaskedTask },
  squad: { head: () => ({ task: "question_answering" }), read: readSquadTask },
  ner: {
    head: async (path, tagging) => ({
      task: "token_classification",
      labelNames: await namesOfTags({ path, tagging }),
    }),
    labelledByData: "token_classification",
    read: readNerTask,
  },
  e2e: { head: writer, read: readE2eTask },
  samsum: { head: writer, read: readSamsumTask },
  chat: { head: writer, read: readChatTask },
  pairs: { head: writer, read: readPairsTask },
  dpo: { head: writer, read: readDpoTask },
  cifar10: { head: images(10), read: (options) => readCifarTask(10, options) },
  cifar100: { head: images(100), read: (options) => readCifarTask(100, options) },
  mnist: { head: images(10), read: (options) => readMnistTask(digits, options) },
  fashion_mnist: { head: images(10), read: (options) => readMnistTask(FASHION_MNIST_CLASSES, options) },
  images: {
    head: async (path) => ({ task: "image_classification", labels: (await classNames(path)).length }),
    labelledByData: "image_classification",
    read: readImagesTask,
  },
};

/** Names of all tasks that come with the package. */
export const TASKS: readonly string[] = [...Object.keys(GLUE_TASKS), ...Object.keys(OTHER_TASKS)];

const unknownTask = (task: string): UsageError =>
  new UsageError(`--task is ${task}.`, `It may be ${[...TASKS, ...ADDED.tasks.names].join(", ")}.`);

function otherTask(task: string): OtherTask | undefined {
  const added = ADDED.tasks.get(task);
  if (added) return { head: () => added.head, read: async (options) => added.read(options) };
  return Object.hasOwn(OTHER_TASKS, task) ? OTHER_TASKS[task] : undefined;
}

/**
 * The head of a model for a task whose data are at `path`.
 * @throws UsageError for an unknown task and for options that the task does not have, DataError for images without classes and
 * for what `readTagged` refuses.
 */
export async function taskHead(task: string, path: string, tagging: Tagging = {}): Promise<HeadOptions> {
  const other = otherTask(task);
  const isTagging = tagging.tagColumn !== undefined || tagging.tooLong !== undefined;
  if (isTagging && other?.labelledByData !== "token_classification") {
    throw new UsageError(`--task ${task} has no tags of words.`, "Leave out --tag-column and --long-sentences.");
  }
  if (other) return other.head(path, tagging);
  if (!isGlueTask(task)) throw unknownTask(task);
  const labels = GLUE_TASKS[task].labels?.length;
  return labels === undefined ? { task: "regression" } : { task: "sequence_classification", labels };
}

/** The head of a model for a task, without the number of its labels where only the training data tell it. Throws as `taskHead`. */
export async function bareHead(task: string): Promise<HeadOptions> {
  const labelled = otherTask(task)?.labelledByData;
  return labelled === undefined ? taskHead(task, "") : { task: labelled };
}

/** Whether the training data decide how many labels a task has. */
export const isLabelledByData = (task: string): boolean => otherTask(task)?.labelledByData !== undefined;

/** Tasks that no data are kept back for, because their texts are not counted in examples. */
const UNDIVIDED: readonly string[] = ["lm", "mlm", "chat", "pairs", "dpo", "e2e", "samsum"];

/** Whether `--split` can keep data of a task of the package back. */
export const isDivided = (task: string): boolean => !UNDIVIDED.includes(task);

/** Why tasks whose rows are not a text each have neither packed rows nor batches by length. */
const OTHER_ROWS: ReadonlyMap<string, string> = new Map([
  ["lm", "its rows are full as they are"],
  ["mlm", "its rows are full as they are"],
  ["dpo", "its batches are pairs of answers"],
]);

/** Why a task's rows and batches are as they are, whatever the model; undefined where they can be filled. */
export const whyNotFilled = (task: string): string | undefined =>
  ADDED.tasks.get(task) ? "a plugin makes its own batches" : OTHER_ROWS.get(task);

/** @throws UsageError where the rows or batches of a task's training data cannot be filled as the options say. */
function checkedFilling(task: string, options: ReadOptions): Pick<TaskOptions, "packing" | "shuffle"> {
  const { model, maxLength, packing = false, shuffle, evaluateOnly = false } = options;
  const other = whyNotFilled(task);
  const unpacked = packing && (other ?? whyNotPacked(model, undefined, maxLength));
  // Another data set to evaluate on may be of a task that is not packed.
  if (evaluateOnly) return { packing: packing && !unpacked };
  const ungrouped = shuffle && (other ?? ((model.image || packing) && "all rows have one length"));
  if (!unpacked && !ungrouped) return { packing, shuffle };
  const [what, why] = unpacked ? ["Packing", unpacked] : ["Grouping by length", ungrouped];
  throw new UsageError(`${what} cannot be used for ${task}: ${why}.`, "Leave it out.");
}

/** Reads the files of a task. @throws UsageError for an unknown task, and for a split, packing or rows that the task does not have. */
export async function readTask(task: string, given: ReadOptions): Promise<TaskData> {
  const { split } = given;
  if (
    split !== undefined &&
    (UNDIVIDED.includes(task) || ADDED.tasks.get(task) || (split === "mismatched" && task !== "mnli"))
  ) {
    throw new UsageError(`--split ${split} cannot be used for ${task}.`, "Leave it out.");
  }
  if (given.eachAnswer && task !== "chat" && !given.evaluateOnly) {
    throw new UsageError(`--each-answer cannot be used for ${task}: it has no chats.`, "Leave it out.");
  }
  const other = otherTask(task);
  const takeAll: ChooseExamples = (_, examples) => examples;
  const options = { ...given, ...checkedFilling(task, given), choose: given.choose ?? takeAll };
  if (other) return other.read(options);
  if (!isGlueTask(task)) throw unknownTask(task);
  return readGlueTask(task, options);
}

/**
 * Reads the dev set of another task or corpus, to evaluate a model that was trained on `trained`. Labels are those of the
 * trained classes with the same names.
 * @throws UsageError for a task with another kind of head, or for pairs of answers where the model did not learn from such, DataError for a class that the model does not have, and for no dev
 * set.
 */
export async function readEvaluation(
  task: string,
  options: ReadOptions,
  trained: { readonly head: HeadOptions; readonly data: TaskData },
): Promise<TaskData> {
  const head = await bareHead(task);
  if (head.task !== trained.head.task) {
    throw new UsageError(
      `--eval-task ${task} needs a model for ${String(head.task)}, and this one is for ${String(trained.head.task)}.`,
      "Evaluate on data of the same kind as those that are trained on.",
    );
  }
  if ((task === "dpo") !== (trained.data.objective?.name === "dpo")) {
    throw new UsageError(
      task === "dpo"
        ? "--eval-task dpo has pairs of answers, and this run has no loss of pairs."
        : `--eval-task ${task} has no pairs of answers, which the loss of this run compares.`,
      "Leave it out, or evaluate the saved adapter in a run of its own.",
    );
  }
  return readTask(task, {
    ...options,
    evaluateOnly: true,
    split: undefined,
    labelNames: trained.data.labelNames,
  });
}
