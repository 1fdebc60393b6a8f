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
import type { Adapter, Tensors } from "./adapter";
import { constant } from "./initial";
import { fanInFanOut, onProjections } from "./on-projections";
import type { ProjectionAdapter } from "./on-projections";
import { TARGET_KEYS, targetKeys } from "./targets";
import type { LayerChoice, TargetOptions } from "./targets";

export interface Ia3Options extends TargetOptions {
  /** Those of the targets whose input is scaled instead of their output. Default the family's own. */
  readonly feedForward?: string | readonly string[];
}

const NAMES = v.union([v.string(), v.array(v.string())]);
const SCHEMA = v.object({
  ...TARGET_KEYS,
  peft_type: v.literal("IA3"),
  feedforward_modules: v.optional(v.nullable(NAMES), null),
  init_ia3_weights: v.optional(v.boolean(), true),
});

/** PEFT's targets by family: outputs that are scaled, and inputs of the second feed-forward projection. */
const DEFAULTS: Readonly<
  Record<string, { readonly targets: readonly string[]; readonly feedForward: readonly string[] }>
> = {
  bert: { targets: ["key", "value", "output.dense"], feedForward: ["output.dense"] },
  roberta: { targets: ["key", "value", "output.dense"], feedForward: ["output.dense"] },
  gpt2: { targets: ["c_attn", "mlp.c_proj"], feedForward: ["mlp.c_proj"] },
  llama: { targets: ["k_proj", "v_proj", "down_proj"], feedForward: ["down_proj"] },
};

/**
 * (IA)^3 (Liu et al. 2022, section 3.3): y = l * (x W + bias), or (l * x) W + bias where a projection is a feed-forward
 * one; l starts at 1.
 *
 * Keeps per module the unscaled activation that l multiplies, while l learns.
 * @throws ConfigError for a family without known targets, when none are named.
 */
export function ia3(options: Ia3Options = {}): Adapter {
  const { feedForward, layers } = options;
  const modules = feedForward === undefined || typeof feedForward === "string" ? feedForward : [...feedForward];
  const keys = { peft_type: "IA3", ...(modules === undefined ? {} : { feedforward_modules: modules }) };
  return ia3FromConfig({ ...keys, ...targetKeys(options) }, "the (IA)3 configuration", layers);
}

/** (IA)^3 as an adapter_config.json describes it. @throws FileFormatError for a wrong value. */
export function ia3FromConfig(told: PeftConfig, where: string, layers?: LayerChoice): Adapter {
  const config = checkSchema(SCHEMA, told, where);
  const feedForward = (model: Model): string | readonly string[] =>
    config.feedforward_modules ?? (config.target_modules === null ? defaultsOf(model).feedForward : []);
  const scalesInput = (model: Model, name: string): boolean => {
    const modules = feedForward(model);
    return typeof modules === "string"
      ? matchesPattern(modules, name, "whole")
      : modules.some((end) => name.endsWith(end));
  };
  const vector = ({ name }: Projection): string => `${name}.ia3_l`;
  const adapter: ProjectionAdapter = onProjections({
    kind: "ia3",
    config,
    layers,
    defaults: (model) => defaultsOf(model).targets,
    tensorsOf: (target, model) => [
      constant(vector(target), [scalesInput(model, target.name) ? target.in : target.out], 1),
    ],
    linear(forward, site) {
      const { recorder } = forward;
      const isInput = scalesInput(forward.model, site.name);
      const l = recorder.parameter(vector(site), [isInput ? site.in : site.out]);
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
    merged: (model, tensors, name, value) => scaled(adapter.choice(model).projections, model, tensors, name, value),
    peft: (targets, model) => ({ fan_in_fan_out: fanInFanOut(targets), feedforward_modules: feedForward(model) }),
  });
  /** A weight's (or bias's) elements times those of l that they meet. */
  function scaled(
    targets: readonly Projection[],
    model: Model,
    tensors: Tensors,
    name: string,
    value: FloatTensor,
  ): FloatTensor {
    const target = targets.find(
      (candidate) => name === `${candidate.name}.weight` || name === `${candidate.name}.bias`,
    );
    const l = target && tensors.get(vector(target));
    if (!target || !l) return value;
    const isInput = scalesInput(model, target.name);
    if (name.endsWith(".bias")) {
      return isInput ? value : { ...value, data: value.data.map((element, i) => element * l.data[i]!) };
    }
    const width = value.shape[1] ?? 1;
    const byRow = isInput === (target.layout === "in_out");
    const index = (i: number): number => (byRow ? Math.floor(i / width) : i % width);
    return { ...value, data: value.data.map((element, i) => element * l.data[index(i)]!) };
  }
  return adapter;
}

function defaultsOf(model: Model) {
  const found = DEFAULTS[model.family];
  if (found) return found;
  throw new ConfigError(
    `(IA)3 has no usual targets in ${model.family}.`,
    `Name them by targets and feedForward; those of other families are ${JSON.stringify(DEFAULTS)}.`,
  );
}
