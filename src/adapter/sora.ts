import * as v from "valibot";
import { checkSchema } from "../io/json";
import type { PeftConfig } from "../io/peft";
import { entryOf } from "../io/safetensors";
import { add } from "../ops/add";
import { meanAbsolute } from "../ops/mean_absolute";
import { scale } from "../ops/scale";
import { scaleColumns } from "../ops/scale_columns";
import type { Value } from "../tape/tape";
import type { Adapter, LowRankUpdate } from "./adapter";
import { constant, normal, uniform } from "./initial";
import { scaledProduct } from "./low-rank";
import { lowRankLinear, onProjections } from "./on-projections";
import type { ProjectionAdapter } from "./on-projections";
import { TARGET_KEYS, targetKeys } from "./targets";
import type { LayerChoice, TargetOptions } from "./targets";

export interface SoraOptions extends TargetOptions {
  /** Rank at the start; gates that reach 0 lower it. Default 8. */
  readonly rank?: number;
  /** The update is scaled by alpha / rank. Default 8. */
  readonly alpha?: number;
  readonly dropout?: number;
  /** Taken off every gate after each update. Default 3e-4, as in the published code (not times the learning rate). */
  readonly threshold?: number;
  /** Weight of the mean |g| that is added to the loss. Default 10, as in the published code. */
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
 * SoRA (Ding et al. 2023, eq. 4 to 8): y = x W + bias + scale * B (g * (A drop(x))), with a gate g [r] from N(0, 1) that an
 * L1 penalty and a soft threshold after each update make sparse.
 *
 * Keeps what LoRA keeps; closed gates stay as zeros.
 * @throws ConfigError for options that make no sense.
 */
export function sora(options: SoraOptions = {}): Adapter {
  const { rank: r = 8, alpha = 8, dropout = 0, threshold = 3e-4, penalty = 10, layers } = options;
  const keys = { peft_type: "SAFETAPE_SORA", r, lora_alpha: alpha, lora_dropout: dropout, threshold, penalty };
  return soraFromConfig({ ...keys, ...targetKeys(options) }, "the SoRA configuration", layers);
}

/** SoRA as its own adapter_config.json describes it. @throws FileFormatError for a wrong value. */
export function soraFromConfig(told: PeftConfig, where: string, layers?: LayerChoice): Adapter {
  const config = checkSchema(SCHEMA, told, where);
  const { r } = config;
  const factor = config.lora_alpha / r;
  const gate = (module: string): string => `${module}.sora_g`;
  const adapter: ProjectionAdapter = onProjections({
    kind: "sora",
    config,
    layers,
    tensorsOf: ({ name, in: inner, out }) => [
      uniform(`${name}.sora_A.weight`, [r, inner], 1 / Math.sqrt(inner)),
      constant(`${name}.sora_B.weight`, [out, r], 0),
      normal(gate(name), [r], 1),
    ],
    proximal: (name) => (name.endsWith(".sora_g") && config.threshold > 0 ? config.threshold : undefined),
    penalty(forward) {
      if (config.penalty === 0) return undefined;
      const { recorder, model } = forward;
      const { projections } = adapter.choice(model);
      const terms = projections.map(({ name }) =>
        recorder.apply(meanAbsolute, { x: recorder.parameter(gate(name), [r]) }, {}),
      );
      const [first, ...rest] = terms as [Value, ...Value[]];
      const sum = rest.reduce((total, b) => recorder.apply(add, { a: total, b }, {}), first);
      return recorder.apply(scale, { x: sum }, { factor: config.penalty / terms.length });
    },
    linear(forward, site) {
      const { recorder } = forward;
      const a = recorder.parameter(`${site.name}.sora_A.weight`, [r, site.in]);
      const b = recorder.parameter(`${site.name}.sora_B.weight`, [site.out, r]);
      const gated = recorder.apply(scaleColumns, { a: b, b: recorder.parameter(gate(site.name), [r]) }, {});
      return lowRankLinear(forward, site, { a, b: gated, scale: factor, dropout: config.lora_dropout });
    },
    updates: (model, tensors) =>
      new Map(
        adapter.choice(model).projections.map(({ name }): [string, LowRankUpdate] => {
          const own = (part: string) => entryOf(tensors, `${name}.sora_${part}`, "the adapter");
          return [name, { a: own("A.weight"), b: scaledProduct(own("B.weight"), undefined, own("g")), scale: factor }];
        }),
      ),
  });
  return adapter;
}
