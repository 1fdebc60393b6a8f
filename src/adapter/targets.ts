import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { Random } from "../base/random";
import { isTarget, layerNumber } from "../io/peft-match";
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
  const resolved = {
    target_modules: config.target_modules ?? [...defaults],
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

/** The projections that a resolved configuration chooses. @throws ConfigError when there are none. */
export function targetProjections(model: Model, config: TargetConfig): Projection[] {
  const { target_modules: targets } = config;
  const isChosen =
    targets === "all-linear"
      ? ({ name, layer }: Projection) => !isInHead(model, name) && (layer !== undefined || !model.output)
      : ({ name }: Projection) => isTarget(config, name) || isTarget(config, model.renamed?.(name) ?? name);
  const chosen = model.projections.filter(isChosen);
  if (chosen.length > 0) return chosen;
  const names = [...new Set(model.projections.map(({ name }) => name.split(".").slice(-2).join(".")))];
  throw new ConfigError(
    `No module of this ${model.family} model matches the adapter's targets ${JSON.stringify(targets)}.`,
    `Its projections are ${names.join(", ")}.`,
  );
}

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

/**
 * Names of all tensors of modules that are trained in addition to an adapter (PEFT's `modules_to_save`).
 * @throws ConfigError when none of the modules exists.
 */
export function savedModuleTensors(model: Model, modules: readonly string[]): string[] {
  // As in PEFT, a name is the end of a module's path, also within a part of it: DistilBERT's pre_classifier is a classifier.
  const belongs = (name: string): boolean => modules.some((module) => name.includes(`${module}.`));
  const names = model.parameters.map(({ name }) => name).filter(belongs);
  // PEFT names both "classifier" and "score" and ignores the one that a model does not have.
  // For answers PEFT always names "qa_outputs", and saves no head where a family, such as ModernBERT, calls it otherwise.
  const isPefts = model.task === "question_answering" && modules.every((module) => module === "qa_outputs");
  if (names.length > 0 || modules.length === 0 || isPefts) return names;
  throw new ConfigError(
    `modules_to_save names ${modules.join(", ")}, which ${model.family} does not have.`,
    `It may name ${model.heads.join(", ") || "no head"}, or any module of the model.`,
  );
}

const TASK_TYPES: Readonly<Record<string, string>> = {
  sequence_classification: "SEQ_CLS",
  regression: "SEQ_CLS",
  causal_lm: "CAUSAL_LM",
  seq2seq: "SEQ_2_SEQ_LM",
  token_classification: "TOKEN_CLS",
  question_answering: "QUESTION_ANS",
};

/** PEFT's name of the model's task; null where it has none. */
export const taskType = (model: Model): string | null => TASK_TYPES[model.task] ?? null;
