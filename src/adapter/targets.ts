import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { Random } from "../base/random";
import { isExcluded, isNamed, isTarget, layerNumber, matchesPattern } from "../io/peft-match";
import { isInHead } from "../model/model";
import type { Model, Projection } from "../model/model";

/** Layers by number from 0, the lower or the upper half of them, or a random half by a seed. */
export type LayerChoice = readonly number[] | "early" | "later" | { readonly randomHalf: number };

/** Options of every adapter of projections. */
export interface TargetOptions {
  /**
   * Projections to adapt, as in PEFT: a list of module paths or of their ends after a dot; a regular expression for the
   * complete path; or "all-linear", every projection but the task's head and the last one of a language model. Default those
   * of the model family.
   */
  readonly targets?: string | readonly string[];
  /** Layers to adapt, whatever names the targets. Default all. */
  readonly layers?: LayerChoice;
  /** Modules of which all tensors are trained as well. Default the task's head. */
  readonly modulesToSave?: readonly string[];
}

const NAMES = v.array(v.string());
const LAYER = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

/** Keys of adapter_config.json that choose modules, for the schemas of all kinds. */
export const TARGET_KEYS = {
  target_modules: v.optional(v.nullable(v.union([v.string(), NAMES])), null),
  exclude_modules: v.optional(v.nullable(v.union([v.string(), NAMES])), null),
  layers_to_transform: v.optional(v.nullable(v.union([LAYER, v.array(LAYER)])), null),
  layers_pattern: v.optional(v.nullable(v.union([v.string(), NAMES])), null),
  modules_to_save: v.optional(v.nullable(NAMES), null),
  task_type: v.optional(v.nullable(v.string()), null),
  base_model_name_or_path: v.optional(v.nullable(v.string()), null),
  inference_mode: v.optional(v.boolean(), true),
} as const;

/** The part of an adapter_config.json that chooses modules. */
export type TargetConfig = {
  readonly target_modules: string | string[] | null;
  readonly exclude_modules: string | string[] | null;
  readonly layers_to_transform: number | number[] | null;
  readonly layers_pattern: string | string[] | null;
  readonly modules_to_save: string[] | null;
};

const isList = (layers: LayerChoice | undefined): layers is readonly number[] => Array.isArray(layers);

/** Target options as keys of adapter_config.json, but for a choice of layers that needs their number. */
export function targetKeys({ targets, layers, modulesToSave }: TargetOptions): Record<string, unknown> {
  return {
    ...(targets === undefined ? {} : { target_modules: typeof targets === "string" ? targets : [...targets] }),
    ...(isList(layers) ? { layers_to_transform: [...layers] } : {}),
    ...(modulesToSave === undefined ? {} : { modules_to_save: [...modulesToSave] }),
  };
}

/**
 * A configuration for one model: defaults that depend on the model are filled in.
 * @throws ConfigError for a choice of layers without any of the targets, and for layers beside a pattern in a file.
 */
export function resolveTargets(
  model: Model,
  config: TargetConfig,
  layers: LayerChoice | undefined,
  defaults: readonly string[],
): TargetConfig {
  const { target_modules: given } = config;
  const isAllLinear = typeof given === "string" && given.toLowerCase() === "all-linear";
  const resolved = {
    target_modules: isAllLinear ? "all-linear" : (given ?? [...defaults]),
    exclude_modules: config.exclude_modules,
    layers_to_transform: layers === undefined ? config.layers_to_transform : chosenLayers(layers, model.layers),
    layers_pattern: config.layers_pattern,
    modules_to_save: config.modules_to_save ?? [...model.heads],
  };
  const { target_modules: targets, layers_to_transform: chosen } = resolved;
  // PEFT's choice of layers limits ends of module paths alone, and by numbers in paths.
  const areEnds =
    typeof targets !== "string" &&
    !model.projections.some((projection) => isListed(model, projection, targets)) &&
    (layers === undefined || areInPaths(model));
  if (chosen === null || areEnds) return resolved;
  if (layers === undefined) {
    if (typeof targets !== "string") return resolved;
    throw new ConfigError(
      `The adapter has layers_to_transform beside the target_modules ${JSON.stringify(targets)}.`,
      "As PEFT has it, they limit lists alone: list the modules, or remove the layers.",
    );
  }
  const numbers = chosenLayers(layers, model.layers);
  const names = targetProjections(model, { ...resolved, layers_to_transform: null })
    .filter(({ layer }) => typeof layer === "number" && numbers.includes(layer))
    .map(({ name }) => name);
  if (names.length > 0) return { ...resolved, target_modules: names, layers_to_transform: null };
  throw new ConfigError(
    `The adapter's targets ${JSON.stringify(targets)} have no module in the layers ${numbers.join(", ")}.`,
    "Choose other layers or targets.",
  );
}

/** Whether paths have the numbers of layers. Swin's count within a stage, an encoder-decoder's within encoder or decoder. */
const areInPaths = ({ projections }: Model): boolean =>
  projections.every(({ name, layer }) => typeof layer !== "number" || layerNumber(name) === layer);

/** Whether a list of targets has the complete path of a projection. */
const isListed = (model: Model, { name }: Projection, targets: readonly string[]): boolean =>
  targets.includes(name) || targets.includes(model.renamed?.(name) ?? name);

/**
 * The projections that a resolved configuration chooses. As in PEFT, none of what `exclude_modules` names, and none that is saved
 * completely.
 * @throws ConfigError when there are none, and for a name that no projection has.
 */
export function targetProjections(model: Model, config: TargetConfig): Projection[] {
  const { target_modules: targets } = config;
  const isChosen =
    targets === "all-linear"
      ? (projection: Projection) => isLinearTarget(model, projection) && !isExcluded(config, projection.name)
      : ({ name }: Projection) => pathsOf(model, name).some((path) => isTarget(config, path)) && !isOut(name);
  const isOut = (name: string): boolean => pathsOf(model, name).some((path) => isExcluded(config, path));
  if (Array.isArray(targets)) checkTargets(model, config, targets);
  const chosen = model.projections.filter(isChosen);
  if (chosen.length > 0) return chosen;
  throw new ConfigError(
    `No module of this ${model.family} model matches the adapter's targets ${JSON.stringify(targets)}${isNamedAtAll(model, targets) ? ", without what is excluded, saved completely or outside of its layers" : ""}.`,
    `Its projections are ${projectionNames(model)}.`,
  );
}

/** A module's path, and the one that it has in transformers 5. */
export const pathsOf = (model: Model, module: string): readonly string[] => [module, model.renamed?.(module) ?? module];

/** Whether "all-linear" chooses a projection: all but the task's head and the last one of a language model. */
const isLinearTarget = (model: Model, { name, layer }: Projection): boolean =>
  !isInHead(model, name) && (layer !== undefined || !model.output);

/** Whether targets name a projection, be it excluded or not. */
const isNamedAtAll = (model: Model, targets: string | readonly string[] | null): boolean =>
  model.projections.some(({ name }) => pathsOf(model, name).some((path) => isNamedBy(targets, path)));

/** Whether targets name a module, in whichever layer it is. */
const isNamedBy = (targets: string | readonly string[] | null, module: string): boolean =>
  typeof targets === "string" ? matchesPattern(targets, module, "whole") : isNamed(targets ?? [], module);

const projectionNames = ({ projections }: Model): string =>
  [...new Set(projections.map(({ name }) => name.split(".").slice(-2).join(".")))].join(", ");

/**
 * @throws ConfigError for a name that no projection has: a misspelt one, or that of a table of embeddings or a convolution, which
 * PEFT could adapt.
 */
function checkTargets(model: Model, config: TargetConfig, targets: readonly string[]): void {
  const other = otherModules(model).find((path) => isNamed(targets, path) && !isExcluded(config, path));
  if (other !== undefined) {
    throw new ConfigError(
      `The adapter's targets (target_modules) name ${other}, ${other === model.tiedOutput?.module ? "whose weight is the embeddings' table" : "which is no linear projection"}: adapters of such modules are not implemented.`,
      `Leave it out, or train it completely with modulesToSave. Projections are ${projectionNames(model)}.`,
    );
  }
  const unknown = unknownTargets(model, targets);
  if (unknown.length > 0) throw unknownNames(model, unknown, "the adapter's targets name");
}

/** The error for names that no module has. @param what what has them, and "names". */
export const unknownNames = (model: Model, names: readonly string[], what: string): ConfigError =>
  new ConfigError(
    `No module of this ${model.family} model is called ${names.map((name) => JSON.stringify(name)).join(" or ")}, which ${what}.`,
    `Its projections are ${projectionNames(model)}.`,
  );

/** The targets of a list that are the name of no module. */
export const unknownTargets = (model: Model, targets: readonly string[]): string[] =>
  targets.filter(
    (target) => !isNamedAtAll(model, [target]) && !otherModules(model).some((path) => isNamedBy([target], path)),
  );

/** Modules that PEFT could adapt beside projections: tables, convolutions, and the last projection where it is tied to a table. */
function otherModules({ parameters, projections, tiedOutput }: Model): string[] {
  const known = new Set(projections.map(({ name }) => name));
  const modules = parameters.flatMap(({ name, shape, isBuffer }) =>
    shape.length >= 2 && name.endsWith(".weight") && !isBuffer ? [name.slice(0, -".weight".length)] : [],
  );
  return [...modules.filter((module) => !known.has(module)), ...(tiedOutput ? [tiedOutput.module] : [])];
}

/**
 * Targets for a file. A pattern that matches more than projections is written as their names: PEFT would adapt tables as well, and
 * fail at the rest.
 */
export function targetsForFile(
  model: Model,
  config: TargetConfig,
  chosen: readonly Projection[],
): TargetConfig["target_modules"] {
  const { target_modules: targets } = config;
  if (typeof targets !== "string") return targets;
  // PEFT's "all-linear" leaves out the head of a task alone.
  if (targets === "all-linear") return savesHead(model, config) ? targets : chosen.map(({ name }) => name);
  const projections = new Set(model.projections.map(({ name }) => name));
  const modules = new Set(model.parameters.flatMap(({ name }) => outerModules(name)));
  const isTooWide = [...modules].some((path) => !projections.has(path) && isTarget(config, path));
  return isTooWide ? chosen.map(({ name }) => name) : targets;
}

/** Whether no projection of the head could get an adapter. */
const savesHead = ({ heads, projections }: Model, config: TargetConfig): boolean =>
  projections.every(({ name }) => !isInHead({ heads }, name) || isExcluded(config, name));

/** The modules that a tensor is in. */
export const outerModules = (tensor: string): string[] =>
  tensor.split(".").flatMap((_, i, parts) => (i === 0 ? [] : [parts.slice(0, i).join(".")]));

/** Layer numbers of a choice among `count` layers. @throws ConfigError for a layer that does not exist. */
export function chosenLayers(choice: LayerChoice, count: number): number[] {
  const all = Array.from({ length: count }, (_, layer) => layer);
  const half = Math.floor(count / 2);
  if (choice === "early") return all.slice(0, half);
  if (choice === "later") return all.slice(half);
  if ("randomHalf" in choice) {
    const order = new Random(choice.randomHalf, 7).shuffle(Uint32Array.from(all));
    return [...order.subarray(0, half)].sort((a, b) => a - b);
  }
  const missing = choice.find((layer) => !all.includes(layer));
  if (missing === undefined) return [...choice];
  throw new ConfigError(
    `Layer ${missing} cannot be adapted: this model has ${count} layers.`,
    `Name layers 0 to ${count - 1}.`,
  );
}

/** Names that PEFT adds to `modules_to_save` for a task, whatever the model calls its head. */
const HEADS_OF_TASKS: Readonly<Record<string, readonly string[]>> = {
  SEQ_CLS: ["classifier", "score"],
  TOKEN_CLS: ["classifier", "score"],
  QUESTION_ANS: ["qa_outputs"],
};

/** Whether PEFT adds a name to `modules_to_save` by itself. */
export const isHeadOfTask = (module: string): boolean =>
  Object.values(HEADS_OF_TASKS).some((heads) => heads.includes(module));

/** `modules_to_save` of a file as PEFT completes it: by the heads of the task. */
export function completedSavedModules(modules: readonly string[] | null, task: unknown): string[] {
  const heads = typeof task === "string" && Object.hasOwn(HEADS_OF_TASKS, task) ? HEADS_OF_TASKS[task]! : [];
  const named = modules ?? [];
  return [...named, ...heads.filter((head) => !named.includes(head))];
}

/**
 * Whether a name of `modules_to_save` means a module of a tensor's path. As in PEFT, it is the end of the module's path, also within
 * a part of it: DistilBERT's pre_classifier is a classifier.
 */
const isSaved = (module: string, tensor: string): boolean => tensor.includes(`${module}.`);

/** Whether a name of `modules_to_save` is one of this model's. */
export const isSavedModule = (model: Model, module: string): boolean =>
  savedTensors(model, [module]).length > 0 || (model.tiedOutput?.module.endsWith(module) ?? false);

function savedTensors(model: Model, modules: readonly string[]): string[] {
  const paths = (tensor: string): string[] => pathsOf(model, tensor.replace(/\.[^.]*$/, "")).map((path) => `${path}.`);
  return model.parameters
    .map(({ name }) => name)
    .filter((name) => modules.some((module) => paths(name).some((path) => isSaved(module, path))));
}

/**
 * Names of all tensors of modules that are trained in addition to an adapter (PEFT's `modules_to_save`).
 * @throws ConfigError for a module that does not exist.
 */
export function savedModuleTensors(model: Model, modules: readonly string[]): string[] {
  const unknown = modules.filter((module) => !isSavedModule(model, module));
  // PEFT names both "classifier" and "score" and ignores the one that a model does not have.
  // For answers PEFT always names "qa_outputs", and saves no head where a family, such as ModernBERT, calls it otherwise.
  const isPefts = model.task === "question_answering" && modules.every((module) => module === "qa_outputs");
  const areAllUnknown = unknown.length === modules.length && modules.length > 0 && !isPefts;
  const wrong = areAllUnknown ? unknown : unknown.filter((module) => !isHeadOfTask(module));
  if (wrong.length === 0) return savedTensors(model, modules);
  throw new ConfigError(
    `modules_to_save names ${wrong.join(", ")}, which ${model.family} does not have.`,
    `It may name ${model.heads.join(", ") || "no head"}, or any module of the model.`,
  );
}

/** PEFT's names of tasks. */
export const TASK_TYPES: Readonly<Record<string, string>> = {
  sequence_classification: "SEQ_CLS",
  regression: "SEQ_CLS",
  causal_lm: "CAUSAL_LM",
  seq2seq: "SEQ_2_SEQ_LM",
  token_classification: "TOKEN_CLS",
  question_answering: "QUESTION_ANS",
};

/** PEFT's name of the model's task; null where it has none. */
export const taskType = (model: Model): string | null => TASK_TYPES[model.task] ?? null;

/**
 * Whether modules that are saved contain those that PEFT saves by itself for the model's task. Where they do not, a file names no
 * task: PEFT would save the head, and give it no adapter.
 */
export function savesHeadOf(model: Model, modules: readonly string[] | null): boolean {
  const saved = new Set(savedTensors(model, modules ?? []));
  return savedTensors(model, completedSavedModules(modules, taskType(model))).every((name) => saved.has(name));
}
