import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { checkSchema } from "../io/json";
import type { PeftConfig } from "../io/peft";
import { headKey } from "../io/peft-keys";
import { matchesPattern, shortestSuffixes } from "../io/peft-match";
import type { FloatTensor } from "../io/safetensors";
import type { Model, Projection, ProjectionRole } from "../model/model";
import { linear } from "../ops/linear";
import { scaleColumns } from "../ops/scale_columns";
import type { Adapter } from "./adapter";
import { constant } from "./initial";
import { fanInFanOut, onProjections } from "./on-projections";
import type { ProjectionAdapter, Targets } from "./on-projections";
import { TARGET_KEYS, targetKeys, unknownNames, unknownTargets } from "./targets";
import type { LayerChoice, TargetOptions } from "./targets";

export interface Ia3Options extends TargetOptions {
  /**
   * Those of the targets whose input is scaled instead of their output. Default the projections out of the feed-forward: those
   * that PEFT chooses for the family, or where PEFT knows no such family, by the projections' role.
   */
  readonly feedForward?: string | readonly string[];
}

const NAMES = v.union([v.string(), v.array(v.string())]);
const SCHEMA = v.object({
  ...TARGET_KEYS,
  peft_type: v.literal("IA3"),
  feedforward_modules: v.optional(v.nullable(NAMES), null),
  init_ia3_weights: v.optional(v.boolean(), true),
});

interface Defaults {
  readonly targets: readonly string[];
  /** Targets whose input is scaled: the second projection of the feed-forward. */
  readonly feedForward: readonly string[];
}

/** PEFT's targets by model family. */
const DEFAULTS: Readonly<Record<string, Defaults>> = {
  bert: { targets: ["key", "value", "output.dense"], feedForward: ["output.dense"] },
  roberta: { targets: ["key", "value", "output.dense"], feedForward: ["output.dense"] },
  gpt2: { targets: ["c_attn", "mlp.c_proj"], feedForward: ["mlp.c_proj"] },
  llama: { targets: ["k_proj", "v_proj", "down_proj"], feedForward: ["down_proj"] },
  t5: { targets: ["k", "v", "wo"], feedForward: ["wo"] },
  bart: { targets: ["q_proj", "v_proj", "fc2"], feedForward: ["fc2"] },
  "deberta-v2": { targets: ["key_proj", "value_proj", "output.dense"], feedForward: ["output.dense"] },
  qwen2: { targets: ["q_proj", "v_proj", "down_proj"], feedForward: ["down_proj"] },
  qwen3: { targets: ["q_proj", "v_proj", "down_proj"], feedForward: ["down_proj"] },
  mistral: { targets: ["k_proj", "v_proj", "down_proj"], feedForward: ["down_proj"] },
  gemma2: { targets: ["q_proj", "v_proj", "down_proj"], feedForward: ["down_proj"] },
  gemma3_text: { targets: ["q_proj", "v_proj", "down_proj"], feedForward: ["down_proj"] },
  gpt_neox: { targets: ["query_key_value", "dense_4h_to_h"], feedForward: ["dense_4h_to_h"] },
};

/** Roles of the targets in families for which PEFT has no defaults. A fused projection's outputs are queries as well. */
const TARGET_ROLES: readonly (ProjectionRole | undefined)[] = ["key", "value", "query_key_value", "feed_forward_out"];

/**
 * (IA)^3 (Liu et al. 2022, section 3.3): y = l * (x W + bias) with l [out], or y = (l * x) W + bias with l [in] for the
 * projection out of the feed-forward; l starts at 1. By default it acts on keys, values and that projection, which are PEFT's
 * modules where PEFT has the family.
 *
 * Keeps the unscaled activation that l multiplies, for each module whose l learns.
 * @throws ConfigError for lists of which `feedForward` names what `targets` does not.
 */
export function ia3(options: Ia3Options = {}): Adapter {
  const { feedForward, targets, layers } = options;
  const modules = feedForward === undefined || typeof feedForward === "string" ? feedForward : [...feedForward];
  const listed = targets === undefined || typeof targets === "string" ? undefined : targets;
  const unlisted = Array.isArray(modules) && listed ? modules.find((module) => !listed.includes(module)) : undefined;
  if (unlisted !== undefined) {
    throw new ConfigError(
      `(IA)3: feedForward names ${unlisted}, which is not one of the targets.`,
      "Name it in both lists: PEFT does not load the adapter otherwise.",
    );
  }
  const keys = { peft_type: "IA3", feedforward_modules: modules, ...targetKeys(options) };
  return ia3FromConfig(keys, "the (IA)3 configuration", layers);
}

/** (IA)^3 by its adapter_config.json. @throws FileFormatError for a wrong value. */
export function ia3FromConfig(value: PeftConfig, where: string, layers?: LayerChoice): Adapter {
  const config = checkSchema(SCHEMA, value, where);
  const inputScaled = config.feedforward_modules;
  const scalesInput = (model: Model, { name, role }: Pick<Projection, "name" | "role">): boolean => {
    const modules = inputScaled ?? DEFAULTS[model.family]?.feedForward;
    if (modules === undefined) return role === "feed_forward_out";
    const matches = (path: string): boolean =>
      typeof modules === "string" ? matchesPattern(modules, path, "whole") : modules.some((end) => path.endsWith(end));
    return matches(name) || matches(model.renamed?.(name) ?? name);
  };
  const vectorName = ({ name }: Pick<Projection, "name">): string => `${name}.ia3_l`;
  const adapter: ProjectionAdapter = onProjections({
    kind: "ia3",
    config,
    layers,
    defaults: (model) => DEFAULTS[model.family]?.targets ?? targetsByRole(model),
    check(_, model) {
      const unknown = Array.isArray(inputScaled) ? unknownTargets(model, inputScaled) : [];
      if (unknown.length > 0) throw unknownNames(model, unknown, "feedForward (feedforward_modules) names");
    },
    tensorsOf: (target, model) => [
      constant(vectorName(target), [scalesInput(model, target) ? target.in : target.out], 1),
    ],
    linear(forward, site) {
      const { recorder } = forward;
      const isInput = scalesInput(forward.model, site);
      const l = recorder.parameter(vectorName(site), [isInput ? site.in : site.out]);
      const x = isInput ? recorder.apply(scaleColumns, { a: site.x, b: l }, {}) : site.x;
      const y = recorder.apply(linear, { x, w: site.weight, bias: site.biasValue }, { layout: site.layout });
      return isInput ? y : recorder.apply(scaleColumns, { a: y, b: l }, {});
    },
    // PEFT's vectors are columns where they scale outputs, rows where they scale inputs.
    toFile(model, tensors) {
      const targets = new Map(adapter.targets(model).projections.map((target) => [vectorName(target), target]));
      const shaped = ([name, tensor]: [string, FloatTensor]): [string, FloatTensor] => {
        const target = targets.get(name);
        if (!target) return [headKey(name), tensor];
        const size = tensor.data.length;
        return [headKey(name), { shape: scalesInput(model, target) ? [1, size] : [size, 1], data: tensor.data }];
      };
      return { config: adapter.peftConfig(model), tensors: new Map([...tensors].map(shaped)) };
    },
    merged(model, tensors, name, value) {
      const module = name.replace(/\.(?:weight|bias)$/, "");
      const target = adapter.targets(model).projections.find((projection) => projection.name === module);
      const l = target && tensors.get(vectorName(target));
      if (!target || !l || module === name) return value;
      return scaled(target, l.data, value, name.endsWith(".bias"), scalesInput(model, target));
    },
    peft: (targets, model) => ({
      fan_in_fan_out: fanInFanOut(targets),
      ...(inputScaled === null ? listedModules(model, adapter.targets(model), scalesInput) : {}),
    }),
  });
  return adapter;
}

/**
 * Lists of targets, and of those whose input is scaled, for a file. PEFT demands that the second is a part of the first, and
 * a choice of layers applies to both.
 */
function listedModules(
  model: Model,
  { projections: targets, config }: Targets,
  scalesInput: (model: Model, target: Projection) => boolean,
): Record<string, unknown> {
  const layers = new Set(targets.map(({ layer }) => layer));
  const all = model.projections.filter(({ layer }) => config.layers_to_transform === null || layers.has(layer));
  const suffixes = (isInput: boolean): string[] =>
    suffixesOf(
      targets.filter((target) => scalesInput(model, target) === isInput),
      all,
    );
  const feedForward = suffixes(true);
  const { target_modules: given } = config;
  return {
    target_modules: typeof given === "string" ? given : [...suffixes(false), ...feedForward],
    feedforward_modules: feedForward,
  };
}

/** A target's weight or bias, with every element times the element of l that scales its input or its output. */
function scaled(
  { layout }: Projection,
  l: Float32Array,
  value: FloatTensor,
  isBias: boolean,
  isInput: boolean,
): FloatTensor {
  if (isBias) return isInput ? value : { ...value, data: value.data.map((element, i) => element * l[i]!) };
  const width = value.shape[1] ?? 1;
  const isByRow = isInput === (layout === "in_out");
  const index = (i: number): number => (isByRow ? Math.floor(i / width) : i % width);
  return { ...value, data: value.data.map((element, i) => element * l[index(i)]!) };
}

/** Keys, values and the projection out of the feed-forward of every layer, as a list of targets. */
function targetsByRole({ projections }: Model): string[] {
  const chosen = projections.filter(({ role }) => TARGET_ROLES.includes(role));
  return suffixesOf(chosen, projections);
}

const suffixesOf = (chosen: readonly Projection[], all: readonly Projection[]): string[] =>
  shortestSuffixes(
    chosen.map(({ name }) => name),
    all.map(({ name }) => name),
  );
