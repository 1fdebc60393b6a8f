import { SafetapeError } from "../../base/errors";
import type { Registry } from "../../base/registry";
import { POLICY_NAMES } from "../../freeze/make";
import type { Family } from "../../model/model";
import { registerFamily } from "../../model/register";
import { OPTIMIZER_NAMES } from "../../optimizer/make";
import { METRIC_NAMES } from "../evaluation";
import { SCHEDULE_TYPES } from "../flags";
import { UsageError } from "../options";
import type { TaskOptions } from "../tasks/task-data";
import { TASKS } from "../tasks/tasks";
import { TRACKER_NAMES } from "../tracker";
import { exportsOf } from "./module";
import { ADDED, guarded } from "./registries";
import type { PluginTask } from "./registries";

/** Anything that takes and gives anything. */
type AnyFunction = (...args: readonly unknown[]) => unknown;

/** One kind of things that a plugin may export, by name. */
interface Kind {
  /** In errors. */
  readonly one: string;
  /** What an entry is; undefined where a value is one. */
  readonly expected: (value: unknown) => string | undefined;
  /** Adds an entry. The function that it returns removes it again. */
  readonly add: (name: string, entry: unknown, what: string) => () => void;
}

const isFunction = (value: unknown): value is AnyFunction => typeof value === "function";

/** A kind whose entries are functions. */
const functions = (one: string, add: (name: string, entry: AnyFunction) => () => void): Kind => ({
  one,
  expected: (value) => (isFunction(value) ? undefined : "a function"),
  add(name, entry, what) {
    // `expected` has made sure that it is a function.
    return add(name, guarded(what, name, entry as AnyFunction));
  },
});

/** A kind of functions that options choose by name. A plugin's functions have the type of the registry's, or are wrong when they run. */
const registered = <T>(one: string, registry: Registry<T>, shipped: readonly string[]): Kind =>
  functions(one, (name, entry) => registry.add(name, entry as T, shipped)); // see above

/** Kinds by the names of exports. */
const KINDS: Readonly<Record<string, Kind>> = {
  // What a family returns is checked by `registerFamily`.
  families: functions("model family", (name, entry) => registerFamily(name, entry as Family)),
  optimizers: registered("optimizer", ADDED.optimizers, OPTIMIZER_NAMES),
  losses: registered("loss", ADDED.losses, []),
  schedules: registered("schedule", ADDED.schedules, SCHEDULE_TYPES),
  metrics: registered("metric", ADDED.metrics, METRIC_NAMES),
  policies: registered("policy", ADDED.policies, POLICY_NAMES),
  trackers: registered("tracker", ADDED.trackers, TRACKER_NAMES),
  tasks: {
    one: "task",
    expected: (value) => (isTask(value) ? undefined : "an object { head, read }"),
    add(name, entry, what) {
      const task = entry as PluginTask; // `expected` has made sure of it.
      return ADDED.tasks.add(
        name,
        { head: task.head, read: guarded(what, name, (options: TaskOptions) => task.read(options)) },
        TASKS,
      );
    },
  },
};

const isTask = (value: unknown): value is PluginTask =>
  isObject(value) && isObject(value["head"]) && isFunction(value["read"]);

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null;

/**
 * Loads plugins: modules that export some of `families`, `optimizers`, `losses`, `schedules`, `metrics`, `policies`, `tasks` and `trackers`, each an object of
 * functions by name, or all of them in an object as the default.
 * @returns a function that forgets what they added.
 * @throws UsageError for a file that cannot be loaded, exports none of these, or something else in one of them, and for a name that is
 * taken. Nothing of that file is added then.
 */
export async function loadPlugins(files: readonly string[]): Promise<() => void> {
  const added: (() => void)[] = [];
  const forget = (): void => added.splice(0).forEach((remove) => remove());
  try {
    for (const file of files) for (const addOne of await additions(file)) added.push(addOne());
  } catch (error) {
    forget();
    throw error;
  }
  return forget;
}

/** What adds the things of a plugin. */
async function additions(file: string): Promise<(() => () => void)[]> {
  const named = await exportsOf(file, "a module of JavaScript that exists");
  const exported = { ...(isObject(named["default"]) && named["default"]), ...named };
  const kinds = Object.keys(KINDS).filter((kind) => exported[kind] !== undefined);
  if (kinds.length === 0) {
    throw new UsageError(
      `${file} exports nothing that a plugin may add.`,
      `Export one of ${Object.keys(KINDS).join(", ")}: export const losses = { mine: (forward, logits, batch) => ... }.`,
    );
  }
  return kinds.flatMap((kind) => entriesOf(file, kind, exported[kind]));
}

function entriesOf(file: string, kind: string, entries: unknown): (() => () => void)[] {
  const { one, expected, add } = KINDS[kind]!;
  if (!isObject(entries) || Object.keys(entries).length === 0) {
    throw new UsageError(`${file}: ${kind} is not an object with entries.`, `Export ${kind} by name: { mine: ... }.`);
  }
  return Object.entries(entries).map(([name, entry]) => {
    const lacking = expected(entry);
    if (lacking !== undefined)
      throw new UsageError(`${file}: the ${one} ${name} is not ${lacking}.`, `Make it ${lacking}.`);
    return () => {
      try {
        return add(name, entry, `The ${one} ${name} of ${file}`);
      } catch (error) {
        throw error instanceof SafetapeError ? new UsageError(`${file}: ${error.fact}`, error.remedy) : error;
      }
    };
  });
}
