import { basename, dirname, isAbsolute, join } from "node:path";
import * as v from "valibot";
import { makeAdapter } from "../../adapter/make";
import { WEIGHT_FORMATS } from "../../base/packed";
import { SafetapeError } from "../../base/errors";
import { ACTIVATION_FORMATS } from "../../op/pack";
import { oneLine } from "../../io/json";
import { DPO_LOSSES } from "../../preference/dpo";
import { OPTIMIZER_NAMES } from "../../optimizer/make";
import { METRIC_NAMES } from "../evaluation";
import { blaming } from "../blame";
import { METEORS } from "../flags";
import { LEAST_RATES, SEARCH_SHARE } from "../learning-rate-search";
import { UsageError } from "../options";
import type { RawOptions } from "../options";
import type { Place } from "../yaml-file";
import { policyNames, policyOf } from "../plugin/policies";
import { ADDED } from "../plugin/registries";
import { methodOfRecipe, taskOfRecipe } from "../recipes/study";
import { cellFile } from "./cells";
import { readDocument } from "./document";
import type { StudyDocument } from "./document";
import { PARTS } from "./parts";
import { REGIME, regimeOf, SPLIT } from "./regimes";
import type { Regime } from "./regimes";

const COUNT = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
const POSITIVE = v.pipe(v.number(), v.finite(), v.gtValue(0));
const FROM_0 = v.pipe(v.number(), v.finite(), v.minValue(0));
const SHARE = v.pipe(FROM_0, v.maxValue(1));
const NAME = v.pipe(v.string(), v.regex(/^[^/\\]+$/, "a name without path separators"));

/** A rate; three of them with a warm-up; or rates to choose from. */
const LEARNING_RATE = v.union(
  [
    POSITIVE,
    v.strictObject({
      initial: FROM_0,
      peak: POSITIVE,
      final: FROM_0,
      warmupSteps: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(0))),
      warmupRatio: v.optional(SHARE),
    }),
    v.strictObject({
      /** Each is tried in a short run of its own, and the best one is used. */
      search: v.pipe(v.array(POSITIVE), v.minLength(LEAST_RATES)),
      /** Length of these runs as a share of the run. Default a tenth. */
      share: v.optional(v.pipe(POSITIVE, v.maxValue(1)), SEARCH_SHARE),
    }),
  ],
  "a learning rate above 0, { initial, peak, final, warmupSteps }, or { search: [at least five rates], share }",
);

const TASK = v.strictObject({
  /** A task of `safetape train --task`. */
  task: v.string(),
  /** Name in the table. Default: the task. */
  name: v.optional(NAME),
  data: v.string(),
  maxLength: v.optional(COUNT, 128),
  batch: v.optional(COUNT, 32),
  /** Batches of an optimizer step. */
  accumulate: v.optional(COUNT, 1),
  /** Whether rows hold as many texts as fit, and whether texts of similar length make batches: as `safetape train` does. */
  packing: v.optional(v.boolean(), false),
  groupByLength: v.optional(v.boolean(), false),
  /** Of chat: `--each-answer` of `safetape train`. */
  eachAnswer: v.optional(v.boolean(), false),
  labelSmoothing: v.optional(v.pipe(FROM_0, v.ltValue(1)), 0),
  /** Of dpo: `--beta` and `--loss-type` of `safetape train`. */
  beta: v.optional(POSITIVE),
  lossType: v.optional(v.picklist(DPO_LOSSES)),
  /** Training examples: a stratified sample. Default all; a study with regimes has them there. */
  examples: v.optional(COUNT),
  /** Length of a run in optimizer steps or in epochs: one of them, or none in a study with regimes. */
  steps: v.optional(COUNT),
  epochs: v.optional(POSITIVE),
  /** Settings of generation, for tasks whose texts are scored (e2e). Default: no texts are generated. */
  generate: v.optional(
    v.strictObject({
      maxNewTokens: v.optional(COUNT, 64),
      beams: v.optional(COUNT, 1),
      lengthPenalty: v.optional(v.pipe(v.number(), v.finite()), 1),
      noRepeatNgram: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(0)), 0),
      ngramsOf: v.optional(v.picklist(["text", "answer"]), "answer"),
      /** `--meteor` of `safetape train`. */
      meteor: v.optional(v.picklist(METEORS), "variant"),
    }),
  ),
});

const METHOD = v.strictObject({
  name: NAME,
  adapter: v.looseObject({ kind: v.string() }),
  /** Parts of the model that get no adapter, of those that its targets name. */
  without: v.optional(v.array(v.picklist(PARTS)), []),
  freeze: v.optional(v.looseObject({ policy: v.string() }), { policy: "never" }),
  /** Training batches on which SAFE scores the layers. Default 1. */
  probeBatches: v.optional(COUNT),
  /** Name of an optimizer of the package or of a plugin. Default AdamW. */
  optimizer: v.optional(v.string()),
  /** Name of a plugin's loss. Default the task's. */
  loss: v.optional(v.string()),
  learningRate: LEARNING_RATE,
  /** Other learning rates for some of the tasks, by their name. */
  learningRates: v.optional(v.record(v.string(), LEARNING_RATE), {}),
  /** Learning rate of the task's head. Default: the same. */
  headLearningRate: v.optional(POSITIVE),
  /** LoRA+: learning rate of B over that of A. Default: the same. */
  loraPlusRatio: v.optional(POSITIVE),
  weightDecay: v.optional(FROM_0, 0),
  /** Formats and recomputation: `--weights`, `--activations` and `--recompute` of `safetape train`. */
  weights: v.optional(v.picklist(WEIGHT_FORMATS), "f32"),
  activations: v.optional(v.picklist(ACTIVATION_FORMATS), "f32"),
  recompute: v.optional(v.union([v.picklist(["none", "mlp", "layers"]), POSITIVE]), "none"),
});

/** An object whose key `recipe` may name a published setting, which is filled in. */
const byRecipe = (fill: (value: RawOptions) => RawOptions) =>
  v.pipe(
    v.record(v.string(), v.unknown()),
    v.rawTransform(({ dataset, addIssue, NEVER }) => {
      try {
        return fill(dataset.value);
      } catch (error) {
        if (!(error instanceof SafetapeError)) throw error;
        const { value } = dataset;
        const at = { type: "object" as const, origin: "value" as const, input: value, key: "recipe" };
        addIssue({ message: `${error.fact} ${error.remedy}`, path: [{ ...at, value: value["recipe"] }] });
        return NEVER;
      }
    }),
  );

const STUDY = v.strictObject({
  model: v.string(),
  tasks: v.pipe(v.array(v.pipe(byRecipe(taskOfRecipe), TASK)), v.minLength(1)),
  methods: v.pipe(v.array(v.pipe(byRecipe(methodOfRecipe), METHOD)), v.minLength(1)),
  seeds: v.pipe(v.array(v.pipe(v.number(), v.safeInteger(), v.minValue(0))), v.minLength(1)),
  /** Amounts of data and epochs: every task is run in each of them. */
  regimes: v.optional(v.pipe(v.array(REGIME), v.minLength(1))),
  /**
   * Sizes and seed of the validation and the test set. Default: complete files, and both the dev set where there is no test
   * file; with regimes, the defaults of its own.
   */
  split: v.optional(SPLIT),
  /** A run ends when its loss on the validation set no longer falls, and its best state is scored. Default: it never does. */
  earlyStopping: v.optional(
    v.strictObject({
      /** Evaluations in a row without a lower loss. The empirical study does not publish its own. */
      patience: v.optional(COUNT, 2),
      /** Optimizer steps between evaluations. Default an epoch. */
      every: v.optional(COUNT),
    }),
  ),
  /** Name of the method that times are relative to. Default: the first one. */
  baseline: v.optional(v.string()),
  maxGradNorm: v.optional(FROM_0, 1),
  /** A schedule of the package, or a plugin's, which has no warm-up but its own. */
  schedule: v.optional(v.string(), "linear"),
  warmupRatio: v.optional(SHARE, 0.05),
  /** Name of a metric, of the package or of a plugin, which runs are then judged by. Default: the first of the task's. */
  metric: v.optional(v.string()),
});

/** Schedules by one learning rate. */
export const STUDY_SCHEDULES = ["linear", "cosine", "constant"] as const;

export type LearningRate = v.InferOutput<typeof LEARNING_RATE>;
export type StudyMethod = v.InferOutput<typeof METHOD>;

/** A task, in one of the study's regimes where it has any. */
export interface StudyTask extends v.InferOutput<typeof TASK> {
  readonly name: string;
  readonly regime: Regime | undefined;
}

/** A study: methods x tasks x seeds. Paths are as the file has them. */
export interface Study extends Omit<v.InferOutput<typeof STUDY>, "tasks" | "baseline" | "regimes"> {
  readonly name: string;
  readonly tasks: readonly StudyTask[];
  readonly baseline: string;
  /** What it reads, each with file and line. A method, so that records of the study, in which `tasks` have all of it, leave it out. */
  inputs(): readonly { readonly what: string; readonly path: string }[];
  /** A path of the file, which is relative to the file's own folder. */
  resolve(path: string): string;
}

/**
 * Reads a study in JSON or YAML.
 * @throws UsageError with file and line: for a wrong key or value, an unknown adapter, policy or option, duplicate names,
 * a baseline that is not one of the methods, a learning rate for a task that is not there, a run without a length, or an
 * optimizer, a loss, a schedule or a metric that neither the package nor a plugin has.
 */
export async function readStudy(path: string): Promise<Study> {
  const document = await readDocument(path, STUDY);
  const { where, fault } = document;
  const { regimes, ...study } = document.value;
  const { methods } = study;
  const resolve = (target: string): string => (isAbsolute(target) ? target : join(dirname(path), target));
  const named = study.tasks.map((task) => ({ ...task, name: task.name ?? task.task }));
  for (const [i, task] of named.entries()) {
    checkLength(task, { place: ["tasks", i], hasRegimes: regimes !== undefined, fault });
    checkPairs(task, methods, { place: ["tasks", i], fault });
  }
  const tasks = named.flatMap((task) => (regimes ? regimes.map((regime) => inRegime(task, regime)) : [whole(task)]));
  const checkName = (kind: string, place: Place, name: string | undefined, known: readonly string[]): void => {
    if (name === undefined || known.includes(name)) return;
    const nearest = known.length > 0 ? `Give ${known.join(", ")}, or the --plugin` : "Give the --plugin";
    throw fault(place, `there is no ${kind} ${name}.`, `${nearest} that exports it.`);
  };
  checkName("schedule", ["schedule"], study.schedule, [...STUDY_SCHEDULES, ...ADDED.schedules.names]);
  checkName("metric", ["metric"], study.metric, [...METRIC_NAMES, ...ADDED.metrics.names]);
  checkUnique(tasks, (i) => fault(["tasks", Math.floor(i / (regimes?.length ?? 1))], ...twice("tasks", tasks[i]!)));
  checkUnique(methods, (i) => fault(["methods", i], ...twice("methods", methods[i]!)));
  for (const [i, { name, adapter, freeze, learningRates, optimizer, loss }] of methods.entries()) {
    const place = ["methods", i];
    const { kind, ...ofAdapter } = adapter;
    const { policy, ...ofPolicy } = freeze;
    checkMade(ofAdapter, (some) => makeAdapter({ kind, ...some }), { name, place: [...place, "adapter"], fault });
    checkName("policy", [...place, "freeze", "policy"], policy, policyNames());
    checkMade(ofPolicy, (some) => policyOf({ policy, ...some }), { name, place: [...place, "freeze"], fault });
    checkName("optimizer", [...place, "optimizer"], optimizer, [...OPTIMIZER_NAMES, ...ADDED.optimizers.names]);
    checkName("loss", [...place, "loss"], loss, ADDED.losses.names);
    const unknown = Object.keys(learningRates).find((task) => !named.some((known) => known.name === task));
    if (unknown === undefined) continue;
    throw fault(
      [...place, "learningRates", unknown],
      `${name} has a learning rate for ${oneLine(unknown)}, which is not a task.`,
      `The tasks are ${named.map((task) => task.name).join(", ")}.`,
    );
  }
  const { baseline = methods[0]!.name } = study;
  if (!methods.some(({ name }) => name === baseline)) {
    throw fault(["baseline"], `the baseline ${oneLine(baseline)} is not a method.`, "Name one of the study's methods.");
  }
  return {
    ...study,
    name: basename(path).replace(/\.(?:json|ya?ml)$/, ""),
    tasks,
    baseline,
    split: study.split ?? (regimes ? v.parse(SPLIT, {}) : undefined),
    inputs: () => [
      { what: `${where(["model"])}: model`, path: resolve(study.model) },
      ...named.map(({ name, data }, i) => ({
        what: `${where(["tasks", i, "data"])}: data of ${name}`,
        path: resolve(data),
      })),
    ],
    resolve,
  };
}

/** Where something of a study is, and the error for it. */
interface Site {
  readonly place: Place;
  readonly fault: StudyDocument<unknown>["fault"];
}

/** @throws UsageError with the line of the option that `make` refuses, or of the object where none alone is at fault. */
function checkMade(
  options: RawOptions,
  make: (options: RawOptions) => unknown,
  { name, place, fault }: Site & { readonly name: string },
): void {
  const what = `${name}: ${String(place.at(-1))}`;
  try {
    blaming(options, { nameOf: (option) => `${what}.${option}`, keyOf: String, otherwise: what }, make);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    const { key } = error;
    throw fault(key === undefined ? place : [...place, key], error.fact, error.remedy, error);
  }
}

type NamedTask = v.InferOutput<typeof TASK> & { readonly name: string };

const whole = (task: NamedTask): StudyTask => ({ ...task, regime: undefined });

function inRegime(task: NamedTask, choice: v.InferOutput<typeof REGIME>): StudyTask {
  const regime = regimeOf(choice);
  return { ...task, name: `${task.name}, ${regime.name}`, epochs: regime.epochs, regime };
}

/** @throws UsageError unless a task has one length, or the study's regimes. */
function checkLength(
  { name, steps, epochs, examples }: NamedTask,
  { hasRegimes, place, fault }: Site & { readonly hasRegimes: boolean },
): void {
  if (hasRegimes) {
    const own = Object.entries({ steps, epochs, examples }).find(([, size]) => size !== undefined)?.[0];
    if (own === undefined) return;
    throw fault(
      [...place, own],
      `${name} has a length of its own, and the study has regimes.`,
      "Leave out the task's steps, epochs and examples, or the regimes.",
    );
  }
  if ((steps === undefined) !== (epochs === undefined)) return;
  throw fault(
    steps === undefined ? place : [...place, "steps"],
    `${name} has ${steps === undefined ? "neither steps nor epochs" : "both steps and epochs"}.`,
    "Give one of them.",
  );
}

/** @throws UsageError for options of pairs of answers that a task has not, or a method with another loss. */
function checkPairs(
  { name, task, beta, lossType }: NamedTask,
  methods: readonly Pick<StudyMethod, "name" | "loss">[],
  { place, fault }: Site,
): void {
  if (task !== "dpo") {
    const own = Object.entries({ beta, lossType }).find(([, option]) => option !== undefined)?.[0];
    if (own === undefined) return;
    throw fault([...place, own], `${name} has ${own}, of dpo.`, "Leave it out.");
  }
  const method = methods.findIndex(({ loss }) => loss !== undefined);
  if (method < 0) return;
  throw fault(
    ["methods", method, "loss"],
    `${methods[method]!.name} has the loss ${String(methods[method]!.loss)}, and ${name} one of its own.`,
    "Leave it out; lossType of the task chooses.",
  );
}

/** The learning rate of a method on a task. */
export function learningRateOf(method: StudyMethod, { name, regime }: StudyTask): LearningRate {
  const task = regime ? name.slice(0, -`, ${regime.name}`.length) : name;
  return method.learningRates[task] ?? method.learningRate;
}

/** Names are unique where the names of their files are. @param duplicate the error for an item that has the name of an earlier one. */
function checkUnique(items: readonly { readonly name: string }[], duplicate: (index: number) => UsageError): void {
  const files = items.map(({ name }) => cellFile(name));
  const index = files.findIndex((file, i) => files.indexOf(file) !== i);
  if (index >= 0) throw duplicate(index);
}

const twice = (kind: string, { name }: { readonly name: string }): [fact: string, remedy: string] => [
  `two ${kind} are named ${name}.`,
  "Give them different names.",
];
