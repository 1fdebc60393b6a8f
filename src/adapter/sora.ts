import * as v from "valibot";
import { checkSchema } from "../io/json";
import type { PeftConfig } from "../io/peft";
import { entryOf } from "../io/safetensors";
import type { FloatTensor } from "../io/safetensors";
import { meanAbsolute } from "../ops/mean_absolute";
import { scaleColumns } from "../ops/scale_columns";
import type { Adapter } from "./adapter";
import { constant, normal, uniform } from "./initial";
import { lowRankLinear, scaledProduct } from "./low-rank";
import { onProjections } from "./on-projections";
import { meanPenalty } from "./penalty";
import { TARGET_KEYS, targetKeys } from "./targets";
import type { LayerChoice, TargetOptions } from "./targets";

export interface SoraOptions extends TargetOptions {
  /** Rank at the start; gates that reach 0 lower it. Default 8. */
  readonly rank?: number;
  /** Scales the update by alpha / rank. Default 8. */
  readonly alpha?: number;
  /** Probability of dropping an element of A's input while training. Default 0. */
  readonly dropout?: number;
  /** Amount by which each update shrinks every gate. Default 3e-4, as in the published code (not times the learning rate). */
  readonly threshold?: number;
  /** Weight of the mean |g| in the loss. Default 10, as in the published code. */
  readonly penalty?: number;
}

const FINITE = v.pipe(v.number(), v.finite(), v.minValue(0));
const SCHEMA = v.object({
  ...TARGET_KEYS,
  peft_type: v.literal("SAFETAPE_SORA"),
  r: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  lora_alpha: v.pipe(v.number(), v.finite()),
  lora_dropout: v.pipe(FINITE, v.maxValue(1)),
  threshold: FINITE,
  penalty: FINITE,
});

/**
 * SoRA (Ding et al. 2023, eq. 4 to 8): y = x W + bias + scale * B (g * (A drop(x))), with A [r, in] uniform, B [out, r] zero
 * and a gate g [r] from N(0, 1), which an L1 penalty and a soft threshold after each update make sparse.
 *
 * Keeps what LoRA keeps; closed gates stay as zeros.
 * @throws FileFormatError for options that make no sense.
 */
export function sora(options: SoraOptions = {}): Adapter {
  const { rank: r = 8, alpha = 8, dropout = 0, threshold = 3e-4, penalty = 10, layers } = options;
  const keys = { peft_type: "SAFETAPE_SORA", r, lora_alpha: alpha, lora_dropout: dropout, threshold, penalty };
  return soraFromConfig({ ...keys, ...targetKeys(options) }, "the SoRA configuration", layers);
}

/** SoRA by its adapter_config.json. @throws FileFormatError for a wrong value. */
export function soraFromConfig(value: PeftConfig, where: string, layers?: LayerChoice): Adapter {
  const config = checkSchema(SCHEMA, value, where);
  const { r } = config;
  const factor = config.lora_alpha / r;
  const gateName = (module: string): string => `${module}.sora_g`;
  return onProjections({
    kind: "sora",
    config,
    layers,
    tensorsOf: (target) => [
      uniform(`${target.name}.sora_A.weight`, [r, target.in], 1 / Math.sqrt(target.in)),
      constant(`${target.name}.sora_B.weight`, [target.out, r], 0),
      normal(gateName(target.name), [r], 1),
    ],
    proximal: (name) => (name.endsWith(".sora_g") && config.threshold > 0 ? config.threshold : undefined),
    penalty({ recorder }, targets) {
      if (config.penalty === 0) return undefined;
      const terms = targets.map(({ name }) =>
        recorder.apply(meanAbsolute, { x: recorder.parameter(gateName(name), [r]) }, {}),
      );
      return meanPenalty(recorder, terms, config.penalty);
    },
    linear(forward, site) {
      const { recorder } = forward;
      const a = recorder.parameter(`${site.name}.sora_A.weight`, [r, site.in]);
      const b = recorder.parameter(`${site.name}.sora_B.weight`, [site.out, r]);
      const gated = recorder.apply(scaleColumns, { a: b, b: recorder.parameter(gateName(site.name), [r]) }, {});
      return lowRankLinear(forward, site, { a, b: gated, scale: factor, dropout: config.lora_dropout });
    },
    update({ name }, tensors) {
      const tensor = (part: string): FloatTensor => entryOf(tensors, `${name}.sora_${part}`, "the adapter");
      return { a: tensor("A.weight"), b: scaledProduct(tensor("B.weight"), undefined, tensor("g")), scale: factor };
    },
  });
}
