import { ConfigError, SafetapeError } from "../../base/errors";
import { Registry } from "../../base/registry";
import type { Policy } from "../../freeze/policy";
import type { HeadOptions } from "../../model/families";
import type { NamedOptimizerOptions } from "../../optimizer/make";
import type { Optimizer } from "../../optimizer/optimizer";
import type { Evaluation } from "../../train/evaluate";
import type { Loss, Schedule } from "../../train/options";
import type { TrackerMaker } from "../tracker";
import type { TaskData, TaskOptions } from "../tasks/task-data";

// What plugins add to the command line, by the names that options choose them by. Families are added to the library itself.

/** Makes an optimizer from the options that the command line has for every one. */
export type OptimizerMaker = (options: NamedOptimizerOptions) => Optimizer;

/** A number by which an evaluation is judged. More is better, unless it is called loss or perplexity. */
export type Metric = (evaluation: Evaluation) => number;

/** Makes a policy from the options that follow its name in JSON, which it checks itself. */
export type PolicyMaker = (options: Readonly<Record<string, unknown>>) => Policy;

/** A task: the head of its models, and how its data are read. */
export interface PluginTask {
  readonly head: HeadOptions;
  read(options: TaskOptions): TaskData | Promise<TaskData>;
}

export const ADDED = {
  optimizers: new Registry<OptimizerMaker>("optimizer"),
  losses: new Registry<Loss>("loss"),
  schedules: new Registry<Schedule>("schedule"),
  metrics: new Registry<Metric>("metric"),
  policies: new Registry<PolicyMaker>("policy"),
  tasks: new Registry<PluginTask>("task"),
  trackers: new Registry<TrackerMaker>("tracker"),
};

/**
 * A plugin's function under its own name. What it throws by mistake becomes an error that names the file.
 * @param what in errors: "The loss focal of my.mjs".
 */
export function guarded<A extends readonly unknown[], R>(
  what: string,
  name: string,
  body: (...args: A) => R,
): (...args: A) => R {
  const explained = (cause: unknown): unknown => {
    if (cause instanceof SafetapeError) return cause;
    const message = cause instanceof Error ? cause.message : String(cause);
    return new ConfigError(
      `${what} throws: ${message.split("\n", 1)[0]}`,
      "Correct the plugin; SAFETAPE_DEBUG=1 shows where it throws.",
      { cause },
    );
  };
  const guard = (...args: A): R => {
    try {
      const result = body(...args);
      if (!(result instanceof Promise)) return result;
      // A promise of the same type that is rejected with the error above.
      return result.catch((cause: unknown) => Promise.reject(explained(cause) as Error)) as R;
    } catch (cause) {
      throw explained(cause);
    }
  };
  // Runs are resumed by the names of their losses and schedules.
  return Object.defineProperty(guard, "name", { value: name });
}
