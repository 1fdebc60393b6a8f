import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { Random } from "../base/random";
import { isTarget } from "../io/peft-match";
import type { Model, Projection } from "../model/model";

/** Layers by number, the lower or the upper half, or half of them at random, by a seed. */
export type LayerChoice = readonly number[] | "early" | "later" | { readonly randomHalf: number };

/** What every adapter of projections lets its user choose (the empirical study of PEFT varies both). */
export interface TargetOptions {
  /**
   * Names of modules (whole, or a suffix after a dot), one regular expression for the whole path, or "all-linear": every
   * projection but the task's head and a language model's last one, as in PEFT. Default the family's own.
   */
  readonly targets?: string | readonly string[];
  /** Layers to adapt; default all. */
  readonly layers?: LayerChoice;
  /** Whole modules to train as well; default the task's head. */
  readonly modulesToSave?: readonly string[];
}

const NAMES = v.array(v.string());
const LAYER = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

/** The keys of adapter_config.json by which PEFT chooses modules, for the schema of a kind. */
export const TARGET_KEYS = {
  target_modules: v.optional(v.nullable(v.union([v.string(), NAMES])), null),
  layers_to_transform: v.optional(v.nullable(v.union([LAYER, v.array(LAYER)])), null),
  layers_pattern: v.optional(v.nullable(v.union([v.string(), NAMES])), null),
  modules_to_save: v.optional(v.nullable(NAMES), null),
  task_type: v.optional(v.nullable(v.string()), null),
  base_model_name_or_path: v.optional(v.nullable(v.string()), null),
  inference_mode: v.optional(v.boolean(), true),
} as const;

/** How an adapter_config.json chooses modules. */
export type TargetConfig = {
  readonly target_modules: string | string[] | null;
  readonly layers_to_transform: number | number[] | null;
  readonly layers_pattern: string | string[] | null;
  readonly modules_to_save: string[] | null;
};

/** Target options as the keys of adapter_config.json. Choices that need the model's layers stay options. */
export function targetKeys({ targets, layers, modulesToSave }: TargetOptions): Record<string, unknown> {
  return {
    ...(targets === undefined ? {} : { target_modules: typeof targets === "string" ? targets : [...targets] }),
    ...(Array.isArray(layers) ? { layers_to_transform: [...(layers as readonly number[])] } : {}),
    ...(modulesToSave === undefined ? {} : { modules_to_save: [...modulesToSave] }),
  };
}

/** The configuration with everything filled in that the model decides. */
export function resolveTargets(
  model: Model,
  config: TargetConfig,
  layers: LayerChoice | undefined,
  defaults: readonly string[],
): TargetConfig {
  return {
    target_modules: config.target_modules ?? [...defaults],
    layers_to_transform: layers === undefined ? config.layers_to_transform : chosenLayers(layers, model.layers),
    layers_pattern: config.layers_pattern,
    modules_to_save: config.modules_to_save ?? [...model.heads],
  };
}

/** The projections that a resolved configuration names. @throws ConfigError when there is none. */
export function targetProjections(model: Model, config: TargetConfig): Projection[] {
  const { target_modules: targets } = config;
  const isChosen =
    targets === "all-linear"
      ? ({ name, layer }: Projection) =>
          !model.heads.some((head) => name === head || name.startsWith(`${head}.`)) &&
          (layer !== undefined || model.task !== "causal_lm")
      : ({ name }: Projection) => isTarget(config, name) || isTarget(config, model.renamed?.(name) ?? name);
  const chosen = model.projections.filter(isChosen);
  if (chosen.length > 0) return chosen;
  const names = [...new Set(model.projections.map(({ name }) => name.split(".").slice(-2).join(".")))];
  throw new ConfigError(
    `No module of this ${model.family} model matches the adapter's targets ${JSON.stringify(targets)}.`,
    `Its projections are ${names.join(", ")}.`,
  );
}

/** Layer numbers of a choice among `count`, in order. @throws ConfigError for a layer that does not exist. */
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
    `Layer ${missing} is to be adapted; this model has ${count}.`,
    `Name layers 0 to ${count - 1}.`,
  );
}

/**
 * Tensors of whole modules that are trained beside an adapter (PEFT's `modules_to_save`).
 * @throws ConfigError when none of the modules exists.
 */
export function savedModuleTensors(model: Model, modules: readonly string[]): string[] {
  const belongs = (name: string): boolean =>
    modules.some((module) => name.startsWith(`${module}.`) || name.includes(`.${module}.`));
  const own = model.parameters.map(({ name }) => name).filter(belongs);
  // PEFT names both "classifier" and "score" and passes over the one that a model does not have.
  if (own.length > 0 || modules.length === 0) return own;
  throw new ConfigError(
    `modules_to_save names ${modules.join(", ")}, which ${model.family} does not have.`,
    `It may name ${model.heads.join(", ") || "no head"}, or any module of the model.`,
  );
}

const TASK_TYPES: Readonly<Record<string, string>> = {
  sequence_classification: "SEQ_CLS",
  regression: "SEQ_CLS",
  causal_lm: "CAUSAL_LM",
  question_answering: "QUESTION_ANS",
};

/** PEFT's name for what the model does; null where it has none. */
export const taskType = (model: Model): string | null => TASK_TYPES[model.task] ?? null;
