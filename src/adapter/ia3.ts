import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { checkSchema } from "../io/json";
import type { PeftConfig } from "../io/peft";
import { headKey } from "../io/peft-keys";
import { matchesPattern } from "../io/peft-match";
import type { FloatTensor } from "../io/safetensors";
import type { Model, Projection } from "../model/model";
import { linear } from "../ops/linear";
import { scaleColumns } from "../ops/scale_columns";
import type { Adapter } from "./adapter";
import { constant } from "./initial";
import { fanInFanOut, onProjections } from "./on-projections";
import type { ProjectionAdapter } from "./on-projections";
import { TARGET_KEYS, targetKeys } from "./targets";
import type { LayerChoice, TargetOptions } from "./targets";

export interface Ia3Options extends TargetOptions {
  /** Those of the targets whose input is scaled instead of their output. Default those of the model family. */
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
};

/**
 * (IA)^3 (Liu et al. 2022, section 3.3): y = l * (x W + bias) with l [out], or y = (l * x) W + bias with l [in] for a
 * projection of the feed-forward; l starts at 1.
 *
 * Keeps the unscaled activation that l multiplies, for each module whose l learns.
 * @throws ConfigError for a model family without default targets, where none are named.
 */
export function ia3(options: Ia3Options = {}): Adapter {
  const { feedForward, layers } = options;
  const modules = feedForward === undefined || typeof feedForward === "string" ? feedForward : [...feedForward];
  const keys = { peft_type: "IA3", feedforward_modules: modules, ...targetKeys(options) };
  return ia3FromConfig(keys, "the (IA)3 configuration", layers);
}

/** (IA)^3 by its adapter_config.json. @throws FileFormatError for a wrong value. */
export function ia3FromConfig(value: PeftConfig, where: string, layers?: LayerChoice): Adapter {
  const config = checkSchema(SCHEMA, value, where);
  const feedForward = (model: Model): string | readonly string[] =>
    config.feedforward_modules ?? (config.target_modules === null ? defaultsOf(model).feedForward : []);
  const scalesInput = (model: Model, name: string): boolean => {
    const modules = feedForward(model);
    return typeof modules === "string"
      ? matchesPattern(modules, name, "whole")
      : modules.some((end) => name.endsWith(end));
  };
  const vectorName = ({ name }: Pick<Projection, "name">): string => `${name}.ia3_l`;
  const adapter: ProjectionAdapter = onProjections({
    kind: "ia3",
    config,
    layers,
    defaults: (model) => defaultsOf(model).targets,
    tensorsOf: (target, model) => [
      constant(vectorName(target), [scalesInput(model, target.name) ? target.in : target.out], 1),
    ],
    linear(forward, site) {
      const { recorder } = forward;
      const isInput = scalesInput(forward.model, site.name);
      const l = recorder.parameter(vectorName(site), [isInput ? site.in : site.out]);
      const x = isInput ? recorder.apply(scaleColumns, { a: site.x, b: l }, {}) : site.x;
      const y = recorder.apply(linear, { x, w: site.weight, bias: site.biasValue }, { layout: site.layout });
      return isInput ? y : recorder.apply(scaleColumns, { a: y, b: l }, {});
    },
    // PEFT's vectors are columns where they scale outputs, rows where they scale inputs.
    toFile(model, tensors) {
      const shaped = ([name, tensor]: [string, FloatTensor]): [string, FloatTensor] => {
        if (!name.endsWith(".ia3_l")) return [headKey(name), tensor];
        const size = tensor.data.length;
        const isInput = scalesInput(model, name.replace(/\.ia3_l$/, ""));
        return [headKey(name), { shape: isInput ? [1, size] : [size, 1], data: tensor.data }];
      };
      return { config: adapter.peftConfig(model), tensors: new Map([...tensors].map(shaped)) };
    },
    merged(model, tensors, name, value) {
      const module = name.replace(/\.(?:weight|bias)$/, "");
      const target = adapter.targets(model).projections.find((projection) => projection.name === module);
      const l = target && tensors.get(vectorName(target));
      if (!target || !l || module === name) return value;
      return scaled(target, l.data, value, name.endsWith(".bias"), scalesInput(model, module));
    },
    peft: (targets, model) => ({ fan_in_fan_out: fanInFanOut(targets), feedforward_modules: feedForward(model) }),
  });
  return adapter;
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

function defaultsOf({ family }: Model): Defaults {
  const defaults = DEFAULTS[family];
  if (defaults) return defaults;
  throw new ConfigError(
    `(IA)3 has no default targets in ${family}.`,
    `Name them by targets and feedForward; those of other families are ${JSON.stringify(DEFAULTS)}.`,
  );
}
