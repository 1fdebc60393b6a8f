import { UsageError } from "../options";
import type { Study, StudyMethod, StudyTask } from "./file";

/** One run of a study. */
export interface StudyCell {
  readonly task: StudyTask;
  readonly method: StudyMethod;
  readonly seed: number;
  /** `3/12  sentiment  LoRA  seed 1` */
  readonly title: string;
  /** Name of its files without their extension. */
  readonly file: string;
}

/** The part of a study that one of several workers runs: the cells `index`, `index + count`, and so on. */
export interface Share {
  /** From 0. */
  readonly index: number;
  readonly count: number;
  /** Where it comes from, for messages. */
  readonly source: string;
}

/** A name as part of a file's name. */
export const cellFile = (name: string): string => name.replace(/[^\w.+-]+/g, "-");

/** All cells of a study, task after task. */
export function cellsOf({ tasks, seeds, methods }: Study): StudyCell[] {
  const cells = tasks.flatMap((task) => seeds.flatMap((seed) => methods.map((method) => ({ task, method, seed }))));
  return cells.map((cell, index) => ({
    ...cell,
    title: `${index + 1}/${cells.length}  ${cell.task.name}  ${cell.method.name}  seed ${cell.seed}`,
    file: `${cellFile(cell.task.name)}--${cellFile(cell.method.name)}--${cell.seed}`,
  }));
}

/** @throws UsageError for a share without any cell. */
export function cellsOfShare(cells: readonly StudyCell[], { index, count, source }: Share): StudyCell[] {
  if (index < cells.length) return cells.filter((_, i) => i % count === index);
  throw new UsageError(
    `${source} is number ${index + 1} of ${count}, and the study has ${cells.length} cells.`,
    `Start at most ${cells.length} workers.`,
  );
}

/** Environment variables by name. */
type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The share that this process should run: that of `--cell i/n`, of a task of a Slurm array, or of a pod of a Kubernetes
 * Job with completion mode Indexed, whose number of completions the Job sets as JOB_COMPLETION_COUNT. Undefined where
 * nothing says so: the process then runs whatever no other one does.
 * @throws UsageError for numbers that make no sense.
 */
export function shareOf(option: string | undefined, environment: Environment): Share | undefined {
  if (option !== undefined) {
    const [, index, count] = /^(\d+)\/(\d+)$/.exec(option) ?? [];
    return checkedShare("--cell", Number(index) - 1, Number(count), option);
  }
  const {
    SLURM_ARRAY_TASK_ID: task,
    SLURM_ARRAY_TASK_MIN: least = "0",
    SLURM_ARRAY_TASK_STEP: step = "1",
  } = environment;
  if (task !== undefined) {
    const index = (Number(task) - Number(least)) / Number(step);
    const { SLURM_ARRAY_TASK_COUNT: count } = environment;
    return checkedShare("SLURM_ARRAY_TASK_ID", index, Number(count), `${task} of ${count ?? "no count"}`);
  }
  const { JOB_COMPLETION_INDEX: pod, JOB_COMPLETION_COUNT: pods } = environment;
  if (pod === undefined) return undefined;
  if (pods !== undefined) return checkedShare("JOB_COMPLETION_INDEX", Number(pod), Number(pods), `${pod} of ${pods}`);
  throw new UsageError(
    "JOB_COMPLETION_INDEX is set, and JOB_COMPLETION_COUNT is not.",
    "Set it to the Job's completions, as examples/studies/kubernetes.yaml does.",
  );
}

function checkedShare(source: string, index: number, count: number, given: string): Share {
  const isValid = Number.isInteger(index) && Number.isInteger(count) && index >= 0 && index < count;
  if (isValid) return { index, count, source };
  throw new UsageError(
    `${source} is ${given}.`,
    source === "--cell" ? "Give i/n with i from 1 to n, for example 2/8." : "The array's numbers must be without gaps.",
  );
}
