import * as v from "valibot";
import { checkSchema } from "../io/json";
import type { PeftConfig } from "../io/peft";
import { entryOf } from "../io/safetensors";
import type { FloatTensor } from "../io/safetensors";
import type { Projection } from "../model/model";
import { scaleColumns } from "../ops/scale_columns";
import { scaleRows } from "../ops/scale_rows";
import type { Adapter } from "./adapter";
import { constant, uniform } from "./initial";
import { lowRankLinear, scaledProduct } from "./low-rank";
import { onProjections } from "./on-projections";
import { TARGET_KEYS, targetKeys } from "./targets";
import type { LayerChoice, TargetOptions } from "./targets";

export interface AfloraOptions extends TargetOptions {
  /** Rank r of every module. Default 4. */
  readonly rank?: number;
  /**
   * Whether A and B of square projections learn too. Default false, as in the published code: they keep their random
   * values, and only d and b learn.
   */
  readonly trainsSquare?: boolean;
  /** Initial value of every element of d. Default 0.1. */
  readonly initialD?: number;
}

const SCHEMA = v.object({
  ...TARGET_KEYS,
  peft_type: v.literal("SAFETAPE_AFLORA"),
  r: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  d_initial: v.pipe(v.number(), v.finite()),
  trains_square: v.boolean(),
});

/**
 * AFLoRA's module (Liu et al. 2024, eq. 1): y = x W + bias + b * (B (d * (A x))), with A [r, in] and B [out, r]
 * Kaiming-uniform, d [r] 0.1 and b [out] zero. The vectors learn throughout; the policy `afloraFreezing` freezes A and B one
 * by one. diag(b) B diag(d) is computed first, so that every gradient but A's is made in rank-wide space.
 * @throws FileFormatError for options that make no sense.
 */
export function aflora(options: AfloraOptions = {}): Adapter {
  const { rank: r = 4, trainsSquare = false, initialD = 0.1, layers } = options;
  const keys = { peft_type: "SAFETAPE_AFLORA", r, d_initial: initialD, trains_square: trainsSquare };
  return afloraFromConfig({ ...keys, ...targetKeys(options) }, "the AFLoRA configuration", layers);
}

/** AFLoRA by its adapter_config.json. @throws FileFormatError for a wrong value. */
export function afloraFromConfig(value: PeftConfig, where: string, layers?: LayerChoice): Adapter {
  const config = checkSchema(SCHEMA, value, where);
  const { r } = config;
  const isFixed = (target: Projection): boolean => !config.trains_square && target.in === target.out;
  return onProjections({
    kind: "aflora",
    config,
    layers,
    tensorsOf: (target) => [
      {
        ...uniform(`${target.name}.aflora_A.weight`, [r, target.in], Math.sqrt(6 / target.in)),
        isFixed: isFixed(target),
      },
      { ...uniform(`${target.name}.aflora_B.weight`, [target.out, r], Math.sqrt(6 / r)), isFixed: isFixed(target) },
      constant(`${target.name}.aflora_d`, [r], config.d_initial),
      constant(`${target.name}.aflora_b`, [target.out], 0),
    ],
    linear(forward, site) {
      const { recorder } = forward;
      const tensor = (part: string, shape: readonly number[]) =>
        recorder.parameter(`${site.name}.aflora_${part}`, shape);
      const scaledColumns = recorder.apply(
        scaleColumns,
        { a: tensor("B.weight", [site.out, r]), b: tensor("d", [r]) },
        {},
      );
      const b = recorder.apply(scaleRows, { a: scaledColumns, b: tensor("b", [site.out]) }, {});
      return lowRankLinear(forward, site, { a: tensor("A.weight", [r, site.in]), b, scale: 1, dropout: 0 });
    },
    update({ name }, tensors) {
      const tensor = (part: string): FloatTensor => entryOf(tensors, `${name}.aflora_${part}`, "the adapter");
      return { a: tensor("A.weight"), b: scaledProduct(tensor("B.weight"), tensor("b"), tensor("d")), scale: 1 };
    },
  });
}
