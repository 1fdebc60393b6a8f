import * as v from "valibot";
import type { PeftConfig } from "../io/peft";
import { patternValue } from "../io/peft-lora";
import type { Forward } from "../model/forward";
import { binary } from "../ops/binary";
import { fill } from "../ops/fill";
import { scale } from "../ops/scale";
import { sum } from "../ops/sum";
import type { Value } from "../tape/tape";
import type { LoraOptions } from "./lora";
import { TARGET_KEYS, targetKeys } from "./targets";
import type { TargetOptions } from "./targets";

// What LoHa and LoKr have in common: PEFT takes both from LyCORIS.

export interface LycorisOptions
  extends TargetOptions, Pick<LoraOptions, "rank" | "alpha" | "rankPattern" | "alphaPattern"> {
  /** Probability that a step leaves an output of a module without its update. Default 0. */
  readonly rankDropout?: number;
  /** Probability that a step leaves a module without its update. Default 0. */
  readonly moduleDropout?: number;
}

const RANK = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
const FINITE = v.pipe(v.number(), v.finite());
const SHARE = v.pipe(FINITE, v.minValue(0), v.maxValue(1));

/** Keys of adapter_config.json. What concerns convolutions alone (`use_effective_conv2d`) changes nothing here. */
export const LYCORIS_KEYS = {
  ...TARGET_KEYS,
  r: v.optional(RANK, 8),
  alpha: v.optional(FINITE, 8),
  rank_dropout: v.optional(SHARE, 0),
  module_dropout: v.optional(SHARE, 0),
  rank_pattern: v.optional(v.nullable(v.record(v.string(), RANK)), {}),
  alpha_pattern: v.optional(v.nullable(v.record(v.string(), FINITE)), {}),
} as const;

/** The part of an adapter_config.json that both kinds have. */
export type LycorisConfig = Readonly<{
  r: number;
  alpha: number;
  rank_dropout: number;
  module_dropout: number;
  rank_pattern: Record<string, number> | null;
  alpha_pattern: Record<string, number> | null;
}>;

/** Options as keys of adapter_config.json. */
export function lycorisKeys(peftType: string, options: LycorisOptions): PeftConfig {
  return {
    peft_type: peftType,
    r: options.rank,
    alpha: options.alpha,
    rank_dropout: options.rankDropout,
    module_dropout: options.moduleDropout,
    ...(options.rankPattern && { rank_pattern: { ...options.rankPattern } }),
    ...(options.alphaPattern && { alpha_pattern: { ...options.alphaPattern } }),
    ...targetKeys(options),
  };
}

/** Rank of a module, and the factor alpha / rank of its update. */
export function sizesOf(config: LycorisConfig, module: string): { readonly rank: number; readonly scale: number } {
  const rank = patternValue(config.rank_pattern ?? {}, module) ?? config.r;
  return { rank, scale: (patternValue(config.alpha_pattern ?? {}, module) ?? config.alpha) / rank };
}

/**
 * Factors of a module's outputs [out] in a training step, which drop some outputs or all of them; undefined where nothing is dropped.
 * As in PEFT, one draw holds for the batch.
 * @param isScaled whether the factors of kept outputs are such that the mean is 1.
 */
export function droppedOutputs(
  forward: Forward,
  out: number,
  { rank_dropout: ofOutputs, module_dropout: ofModule }: LycorisConfig,
  isScaled: boolean,
): Value | undefined {
  if (!forward.isTraining || (ofOutputs === 0 && ofModule === 0)) return undefined;
  const { recorder } = forward;
  // Dropout divides what it keeps by 1 - probability.
  const draw = (size: number, probability: number): Value => {
    const ones = recorder.apply(fill, {}, { shape: [size], value: 1 });
    const kept = forward.ofBatch(() => forward.dropout(ones, probability));
    return probability === 0 ? kept : recorder.apply(scale, { x: kept }, { factor: 1 - probability });
  };
  const outputs = draw(out, ofOutputs);
  const mean = isScaled ? recorder.apply(sum, { x: outputs }, { axes: [0], keepDims: true, mean: true }) : undefined;
  const scaled = mean ? recorder.apply(binary, { a: outputs, b: mean }, { kind: "div" }) : outputs;
  return ofModule === 0 ? scaled : recorder.apply(binary, { a: scaled, b: draw(1, ofModule) }, { kind: "mul" });
}
