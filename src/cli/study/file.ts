import { basename, dirname, isAbsolute, join } from "node:path";
import * as v from "valibot";
import { makeAdapter } from "../../adapter/make";
import { WEIGHT_FORMATS } from "../../base/packed";
import { ACTIVATION_FORMATS } from "../../op/pack";
import { ConfigError } from "../../base/errors";
import { makePolicy } from "../../freeze/make";
import { readJson } from "../../io/json";
import { openDirectory } from "../../node/directory";
import { DPO_LOSSES } from "../../preference/dpo";
import { OPTIMIZER_NAMES } from "../../optimizer/make";
import { METRIC_NAMES } from "../evaluation";
import { blaming } from "../blame";
import { METEORS } from "../flags";
import { LEAST_RATES, SEARCH_SHARE } from "../learning-rate-search";
import type { RawOptions } from "../options";
import { ADDED } from "../plugin/registries";
import { methodOfRecipe, taskOfRecipe } from "../recipes/study";
import { cellFile } from "./cells";
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
  v.pipe(v.record(v.string(), v.unknown()), v.transform(fill));

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
  /** A path of the file, which is relative to the file's own folder. */
  resolve(path: string): string;
}

/**
 * Reads a study.
 * @throws FileFormatError for a wrong key or value; ConfigError for an unknown adapter, policy or option, duplicate names,
 * a baseline that is not one of the methods, a learning rate for a task that is not there, a run without a length, or an
 * optimizer, a loss, a schedule or a metric that neither the package nor a plugin has.
 */
export async function readStudy(path: string): Promise<Study> {
  const file = basename(path);
  const { regimes, ...study } = await readJson(await openDirectory(dirname(path)), file, STUDY);
  const { methods } = study;
  const named = study.tasks.map((task) => ({ ...task, name: task.name ?? task.task }));
  const tasks = regimes
    ? named.flatMap((task) => regimes.map((regime) => inRegime(task, regime, file)))
    : named.map(whole);
  for (const task of tasks) {
    checkLength(task, file);
    checkPairs(task, methods, file);
  }
  checkName(file, "schedule", study.schedule, [...STUDY_SCHEDULES, ...ADDED.schedules.names]);
  checkName(file, "metric", study.metric, [...METRIC_NAMES, ...ADDED.metrics.names]);
  checkUnique(tasks, "tasks", file);
  checkUnique(methods, "methods", file);
  for (const { name, adapter, freeze, learningRates, optimizer, loss } of methods) {
    const naming = { nameOf: String, otherwise: `${file}: ${name}` };
    blaming({}, naming, () => [makeAdapter(adapter), makePolicy(freeze)]);
    checkName(file, "optimizer", optimizer, [...OPTIMIZER_NAMES, ...ADDED.optimizers.names]);
    checkName(file, "loss", loss, ADDED.losses.names);
    const unknown = Object.keys(learningRates).find((task) => !named.some((known) => known.name === task));
    if (unknown === undefined) continue;
    throw new ConfigError(
      `${file}: ${name} has a learning rate for ${unknown}, which is not a task.`,
      `The tasks are ${named.map((task) => task.name).join(", ")}.`,
    );
  }
  const { baseline = methods[0]!.name } = study;
  if (!methods.some(({ name }) => name === baseline)) {
    throw new ConfigError(`${file}: the baseline ${baseline} is not a method.`, "Name one of the study's methods.");
  }
  return {
    ...study,
    name: file.replace(/\.json$/, ""),
    tasks,
    baseline,
    split: study.split ?? (regimes ? v.parse(SPLIT, {}) : undefined),
    resolve: (target) => (isAbsolute(target) ? target : join(dirname(path), target)),
  };
}

/** @throws ConfigError for a name that nothing has. */
function checkName(file: string, kind: string, name: string | undefined, known: readonly string[]): void {
  if (name === undefined || known.includes(name)) return;
  throw new ConfigError(
    `${file}: there is no ${kind} ${name}.`,
    known.length > 0
      ? `Give ${known.join(", ")}, or the --plugin that exports it.`
      : "Give the --plugin that exports it.",
  );
}

type NamedTask = v.InferOutput<typeof TASK> & { readonly name: string };

const whole = (task: NamedTask): StudyTask => ({ ...task, regime: undefined });

function inRegime(task: NamedTask, choice: v.InferOutput<typeof REGIME>, file: string): StudyTask {
  const regime = regimeOf(choice);
  if ([task.steps, task.epochs, task.examples].every((size) => size === undefined)) {
    return { ...task, name: `${task.name}, ${regime.name}`, epochs: regime.epochs, regime };
  }
  throw new ConfigError(
    `${file}: ${task.name} has a length of its own, and the study has regimes.`,
    "Leave out the task's steps, epochs and examples, or the regimes.",
  );
}

function checkLength({ name, steps, epochs }: StudyTask, file: string): void {
  if ((steps === undefined) !== (epochs === undefined)) return;
  throw new ConfigError(
    `${file}: ${name} has ${steps === undefined ? "neither steps nor epochs" : "both steps and epochs"}.`,
    "Give one of them.",
  );
}

/** @throws ConfigError for options of pairs of answers that a task has not, or a method with another loss. */
function checkPairs(
  { name, task, beta, lossType }: StudyTask,
  methods: readonly Pick<StudyMethod, "name" | "loss">[],
  file: string,
): void {
  if (task !== "dpo") {
    if (beta === undefined && lossType === undefined) return;
    throw new ConfigError(`${file}: ${name} has ${beta === undefined ? "lossType" : "beta"}, of dpo.`, "Leave it out.");
  }
  const method = methods.find(({ loss }) => loss !== undefined);
  if (!method) return;
  throw new ConfigError(
    `${file}: ${method.name} has the loss ${String(method.loss)}, and ${name} one of its own.`,
    "Leave it out; lossType of the task chooses.",
  );
}

/** The learning rate of a method on a task. */
export function learningRateOf(method: StudyMethod, { name, regime }: StudyTask): LearningRate {
  const task = regime ? name.slice(0, -`, ${regime.name}`.length) : name;
  return method.learningRates[task] ?? method.learningRate;
}

/** Names are unique where the names of their files are. */
function checkUnique(items: readonly { readonly name: string }[], kind: string, file: string): void {
  const files = items.map(({ name }) => cellFile(name));
  const duplicate = items.find(({ name }, i) => files.indexOf(cellFile(name)) !== i);
  if (duplicate === undefined) return;
  throw new ConfigError(`${file}: two ${kind} are named ${duplicate.name}.`, "Give them different names.");
}
