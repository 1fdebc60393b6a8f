import { readFile } from "node:fs/promises";
import { basename, dirname, isAbsolute, join } from "node:path";
import * as v from "valibot";
import { makeAdapter } from "../adapter/make";
import { WEIGHT_FORMATS } from "../base/packed";
import { ACTIVATION_FORMATS } from "../op/pack";
import { ConfigError, FileFormatError } from "../base/errors";
import { makePolicy } from "../freeze/make";
import { checkSchema, parseJson } from "../io/json";

const COUNT = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
const POSITIVE = v.pipe(v.number(), v.gtValue(0));
const NAME = v.pipe(v.string(), v.regex(/^[^/\\]+$/, "a name without path separators"));

const TASK = v.strictObject({
  /** As `--task` of `safetape train`. */
  task: v.string(),
  /** Its name in the table; default the task's. */
  name: v.optional(NAME),
  data: v.string(),
  maxLength: v.optional(COUNT, 128),
  batch: v.optional(COUNT, 32),
  /** Optimizer steps of a run. */
  steps: COUNT,
  /** How texts are written, where the task is to be judged by them (e2e). */
  generate: v.optional(
    v.strictObject({
      maxNewTokens: v.optional(COUNT, 64),
      beams: v.optional(COUNT, 1),
      lengthPenalty: v.optional(v.pipe(v.number(), v.finite()), 1),
      noRepeatNgram: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(0)), 0),
      ngramsOf: v.optional(v.picklist(["text", "answer"]), "answer"),
    }),
  ),
});

const METHOD = v.strictObject({
  name: NAME,
  adapter: v.looseObject({ kind: v.string() }),
  freeze: v.optional(v.looseObject({ policy: v.string() }), { policy: "never" }),
  learningRate: POSITIVE,
  weightDecay: v.optional(v.pipe(v.number(), v.minValue(0)), 0),
  /** How frozen weights and kept activations are stored, and what is run again: as `--weights` and its like. */
  weights: v.optional(v.picklist(WEIGHT_FORMATS), "f32"),
  activations: v.optional(v.picklist(ACTIVATION_FORMATS), "f32"),
  recompute: v.optional(v.union([v.picklist(["none", "mlp", "layers"]), POSITIVE]), "none"),
});

const STUDY = v.strictObject({
  model: v.string(),
  tasks: v.pipe(v.array(TASK), v.minLength(1)),
  methods: v.pipe(v.array(METHOD), v.minLength(1)),
  seeds: v.pipe(v.array(v.pipe(v.number(), v.safeInteger(), v.minValue(0))), v.minLength(1)),
  /** The method that times are relative to; default the first. */
  baseline: v.optional(v.string()),
  maxGradNorm: v.optional(v.pipe(v.number(), v.minValue(0)), 1),
  warmupRatio: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(1)), 0.05),
});

export type StudyTask = v.InferOutput<typeof TASK> & { readonly name: string };
export type StudyMethod = v.InferOutput<typeof METHOD>;

/** What is run: methods x tasks x seeds. */
export interface Study extends Omit<v.InferOutput<typeof STUDY>, "tasks" | "baseline"> {
  readonly name: string;
  readonly tasks: readonly StudyTask[];
  readonly baseline: string;
}

/**
 * Reads a study; paths in it are relative to its own folder.
 * @throws FileFormatError for a wrong key or value; ConfigError for an unknown adapter, policy or option, names that occur
 * twice, or a baseline that is no method: before anything runs.
 */
export async function readStudy(path: string): Promise<Study> {
  const bytes = await readFile(path).catch(() => {
    throw new FileFormatError(`No file ${path}.`, "Give the path of a study's JSON file.");
  });
  const where = basename(path);
  const told = checkSchema(STUDY, parseJson(bytes, where), where);
  const resolved = (given: string): string => (isAbsolute(given) ? given : join(dirname(path), given));
  const tasks = told.tasks.map((task) => ({ ...task, name: task.name ?? task.task, data: resolved(task.data) }));
  unique(
    tasks.map(({ name }) => name),
    "tasks",
    where,
  );
  unique(
    told.methods.map(({ name }) => name),
    "methods",
    where,
  );
  for (const { adapter, freeze } of told.methods) {
    makeAdapter(adapter);
    makePolicy(freeze);
  }
  const baseline = told.baseline ?? told.methods[0]!.name;
  if (!told.methods.some(({ name }) => name === baseline)) {
    throw new ConfigError(`${where}: the baseline ${baseline} is no method.`, "Name one of the study's methods.");
  }
  return { ...told, name: where.replace(/\.json$/, ""), model: resolved(told.model), tasks, baseline };
}

function unique(names: readonly string[], what: string, where: string): void {
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice === undefined) return;
  throw new ConfigError(`${where}: two ${what} are named ${twice}.`, "Give each a name of its own.");
}
