import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { checkSchema } from "../io/json";
import { headKey, stripPrefix } from "../io/peft-keys";
import type { PeftConfig } from "../io/peft";
import { isExcluded, isNamed, isTarget, shortestSuffixes } from "../io/peft-match";
import type { Tie } from "../model/forward";
import { isNormWeight, normTensors } from "../model/model";
import type { Model, ParameterSpec } from "../model/model";
import type { Adapter } from "./adapter";
import { ownOutput } from "./on-projections";
import { chosenLayers, outerModules, pathsOf, savedModuleTensors, savesHeadOf, TARGET_KEYS, taskType } from "./targets";
import type { LayerChoice } from "./targets";
import { tieOf } from "./tied";

export interface LnTuningOptions {
  /**
   * Norms that learn: a list of module paths or of their ends after a dot, or a regular expression for the complete path. Default all
   * of the model, but for those in saved modules.
   */
  readonly targets?: string | readonly string[];
  /** Layers whose norms learn. Default all norms, also those outside the layers. */
  readonly layers?: LayerChoice;
  /** Modules of which all tensors are trained as well. Default the task's head. */
  readonly modulesToSave?: readonly string[];
}

const SCHEMA = v.object({
  peft_type: v.literal("LN_TUNING"),
  target_modules: TARGET_KEYS.target_modules,
  exclude_modules: TARGET_KEYS.exclude_modules,
  modules_to_save: TARGET_KEYS.modules_to_save,
});

/**
 * LN tuning (Zhao et al. 2023, section 3): the weights and biases of the checkpoint's norms learn, RMS norms included, and the head.
 *
 * Keeps the input of each norm whose weight learns; nothing for a bias.
 * @throws ConfigError for targets that are no norms.
 */
export function lnTuning({ targets, layers, modulesToSave }: LnTuningOptions = {}): Adapter {
  const keys = {
    peft_type: "LN_TUNING",
    target_modules: typeof targets === "object" ? [...targets] : targets,
    modules_to_save: modulesToSave && [...modulesToSave],
  };
  return lnTuningFromConfig(keys, "the LN tuning configuration", layers);
}

/** LN tuning by its adapter_config.json. @throws FileFormatError for a wrong value. */
export function lnTuningFromConfig(value: PeftConfig, where: string, layers?: LayerChoice): Adapter {
  const config = checkSchema(SCHEMA, value, where);
  const saved = (model: Model): readonly string[] => config.modules_to_save ?? model.heads;
  const tie = (model: Model): Tie | undefined => tieOf(model, saved(model), false);
  /** Whether the targets name a norm. */
  const isNamedNorm = (path: string): boolean =>
    config.target_modules === null || isTarget({ ...config, layers_to_transform: null, layers_pattern: null }, path);
  /** Weights and biases that learn. */
  const chosen = (model: Model): ParameterSpec[] => {
    const numbers = layers === undefined ? undefined : chosenLayers(layers, model.layers);
    const paths = (name: string): readonly string[] => pathsOf(model, name);
    const isOut = (path: string): boolean => isExcluded({ ...config, modules_to_save: [...saved(model)] }, path);
    const isChosen = (name: string): boolean => !paths(name).some(isOut) && paths(name).some(isNamedNorm);
    const { target_modules: targets } = config;
    const norms = model.parameters.filter(isNormWeight).map(({ name }) => moduleOf(name));
    const names = new Set(norms.filter(isChosen));
    const unknown = Array.isArray(targets)
      ? targets.filter((target) => !norms.some((name) => paths(name).some((path) => isNamed([target], path))))
      : [];
    const tensors = normTensors(model, numbers).filter(({ name }) => names.has(moduleOf(name)));
    if (unknown.length === 0 && tensors.length > 0) return tensors;
    throw new ConfigError(
      `The adapter's targets ${JSON.stringify(unknown.length > 0 ? unknown : (targets ?? "all"))} are no norms of this ${model.family} model.`,
      `LN tuning trains norms alone. They are ${[...new Set(norms.map((name) => name.slice(name.lastIndexOf(".") + 1)))].join(", ")}.`,
    );
  };
  const adapter: Adapter = {
    kind: "ln_tuning",
    tie,
    tensors: (model) => (tie(model) === "own" ? [ownOutput(model)] : []),
    baseTensors(model) {
      const names = new Set([...savedModuleTensors(model, saved(model)), ...chosen(model).map(({ name }) => name)]);
      return model.parameters.map(({ name }) => name).filter((name) => names.has(name));
    },
    peftConfig: (model) => ({
      peft_type: config.peft_type,
      target_modules: shortestSuffixes(
        [...new Set(chosen(model).map(({ name }) => moduleOf(name)))],
        modulesAround(model),
      ),
      modules_to_save: [...saved(model)],
      task_type: savesHeadOf(model, [...saved(model)]) ? taskType(model) : null,
      inference_mode: true,
    }),
    toFile(model, tensors) {
      const norms = new Set(chosen(model).map(({ name }) => name));
      const key = (name: string): string =>
        headKey(norms.has(name) ? name.replace(/\.(\w+)$/, ".ln_tuning_layers.$1") : name);
      const keyed = new Map([...tensors].map(([name, tensor]) => [key(name), tensor]));
      return { config: adapter.peftConfig(model), tensors: keyed };
    },
    // A norm that the targets do not name keeps its key, by which it is refused.
    fromFile: (stored) =>
      new Map(
        [...stored].map(([key, tensor]) => {
          const name = stripPrefix(key);
          const [, module, part] = /^(.+)\.ln_tuning_layers\.(?:default\.)?(\w+)$/.exec(name) ?? [];
          return [module !== undefined && isNamedNorm(module) ? `${module}.${part}` : name, tensor];
        }),
      ),
    merged: (_model, tensors, name, weight) => tensors.get(name) ?? weight,
  };
  return adapter;
}

/** A tensor's module. */
const moduleOf = (tensor: string): string => tensor.slice(0, tensor.lastIndexOf("."));

/**
 * Modules among which PEFT looks for targets: those with tensors, and around them. A norm that some layers have and others do not
 * (ModernBERT's first) may be a module without tensors there, at which PEFT fails: it counts for every layer.
 */
function modulesAround({ parameters }: Model): string[] {
  const modules = new Set(parameters.flatMap(({ name }) => outerModules(name)));
  const numbers = new Set([...modules].flatMap((module) => /\.(\d+)\./.exec(module)?.[1] ?? []));
  const ofLayers = parameters
    .filter(isNormWeight)
    .flatMap(({ name }) => [...numbers].map((number) => moduleOf(name).replace(/\.\d+\./, `.${number}.`)));
  return [...new Set([...modules, ...ofLayers])];
}
