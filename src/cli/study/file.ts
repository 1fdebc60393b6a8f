import { basename, dirname, isAbsolute, join } from "node:path";
import * as v from "valibot";
import { makeAdapter } from "../../adapter/make";
import { WEIGHT_FORMATS } from "../../base/packed";
import { ACTIVATION_FORMATS } from "../../op/pack";
import { ConfigError } from "../../base/errors";
import { makePolicy } from "../../freeze/make";
import { readJson } from "../../io/json";
import { openDirectory } from "../../node/directory";
import { METEORS } from "../flags";

const COUNT = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
const POSITIVE = v.pipe(v.number(), v.gtValue(0));
const NAME = v.pipe(v.string(), v.regex(/^[^/\\]+$/, "a name without path separators"));

const TASK = v.strictObject({
  /** A task of `safetape train --task`. */
  task: v.string(),
  /** Name in the table. Default: the task. */
  name: v.optional(NAME),
  data: v.string(),
  maxLength: v.optional(COUNT, 128),
  batch: v.optional(COUNT, 32),
  /** Optimizer steps of a run. */
  steps: COUNT,
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
  freeze: v.optional(v.looseObject({ policy: v.string() }), { policy: "never" }),
  learningRate: POSITIVE,
  /** Learning rate of the task's head. Default: the same. */
  headLearningRate: v.optional(POSITIVE),
  weightDecay: v.optional(v.pipe(v.number(), v.minValue(0)), 0),
  /** Formats and recomputation: `--weights`, `--activations` and `--recompute` of `safetape train`. */
  weights: v.optional(v.picklist(WEIGHT_FORMATS), "f32"),
  activations: v.optional(v.picklist(ACTIVATION_FORMATS), "f32"),
  recompute: v.optional(v.union([v.picklist(["none", "mlp", "layers"]), POSITIVE]), "none"),
});

const STUDY = v.strictObject({
  model: v.string(),
  tasks: v.pipe(v.array(TASK), v.minLength(1)),
  methods: v.pipe(v.array(METHOD), v.minLength(1)),
  seeds: v.pipe(v.array(v.pipe(v.number(), v.safeInteger(), v.minValue(0))), v.minLength(1)),
  /** Name of the method that times are relative to. Default: the first one. */
  baseline: v.optional(v.string()),
  maxGradNorm: v.optional(v.pipe(v.number(), v.minValue(0)), 1),
  warmupRatio: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(1)), 0.05),
});

export type StudyTask = v.InferOutput<typeof TASK> & { readonly name: string };
export type StudyMethod = v.InferOutput<typeof METHOD>;

/** A study: methods x tasks x seeds. */
export interface Study extends Omit<v.InferOutput<typeof STUDY>, "tasks" | "baseline"> {
  readonly name: string;
  readonly tasks: readonly StudyTask[];
  readonly baseline: string;
}

/**
 * Reads a study. Relative paths in it are relative to its own folder.
 * @throws FileFormatError for a wrong key or value; ConfigError for an unknown adapter, policy or option, duplicate names,
 * or a baseline that is not one of the methods.
 */
export async function readStudy(path: string): Promise<Study> {
  const file = basename(path);
  const study = await readJson(await openDirectory(dirname(path)), file, STUDY);
  const resolve = (target: string): string => (isAbsolute(target) ? target : join(dirname(path), target));
  const { methods } = study;
  const tasks = study.tasks.map((task) => ({ ...task, name: task.name ?? task.task, data: resolve(task.data) }));
  checkUnique(tasks, "tasks", file);
  checkUnique(methods, "methods", file);
  for (const { adapter, freeze } of methods) {
    makeAdapter(adapter);
    makePolicy(freeze);
  }
  const { baseline = methods[0]!.name } = study;
  if (!methods.some(({ name }) => name === baseline)) {
    throw new ConfigError(`${file}: the baseline ${baseline} is not a method.`, "Name one of the study's methods.");
  }
  return { ...study, name: file.replace(/\.json$/, ""), model: resolve(study.model), tasks, baseline };
}

function checkUnique(items: readonly { readonly name: string }[], kind: string, file: string): void {
  const names = items.map(({ name }) => name);
  const duplicate = names.find((name, i) => names.indexOf(name) !== i);
  if (duplicate === undefined) return;
  throw new ConfigError(`${file}: two ${kind} are named ${duplicate}.`, "Give them different names.");
}
