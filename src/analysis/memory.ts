import type { Adapter } from "../adapter/adapter";
import { makeAdapter } from "../adapter/make";
import { ConfigError } from "../base/errors";
import type { Bytes } from "../gpu/ledger";
import { createModel } from "../model/families";
import { plan } from "../train/estimate/predict";
import type { PredictOptions } from "../train/estimate/predict";

export interface MethodMemoryOptions extends Omit<PredictOptions, "adapter" | "freezeBelow"> {
  /** Rank of the low-rank adapters. Default 4, as in SAFE. */
  readonly rank?: number;
  /** Layers whose adapters SAFE has frozen at the end, from the lowest one on. Default half of them. */
  readonly freezeBelow?: number;
}

/** The memory of a training step with one method. */
export interface MethodMemory {
  readonly name: string;
  /** Bytes by lifetime at the peak. */
  readonly bytes: Bytes;
  readonly peakBytes: number;
  readonly trainableParameters: number;
}

/**
 * The memory of a training step by category for seven methods (SAFE, figure 1): full tuning, Houlsby's and Pfeiffer's adapters,
 * AdaLoRA, BitFit, LoRA, and LoRA once SAFE has frozen the adapters of the lowest layers. It follows from plans alone.
 * @throws ConfigError for a configuration that is not supported, for more frozen layers than there are, or for a model that one
 * of the methods cannot adapt; DataError for rows that are longer than the model takes.
 */
export function memoryByMethod({ rank = 4, freezeBelow, ...workload }: MethodMemoryOptions): MethodMemory[] {
  const { layers } = createModel(workload.config);
  const frozen = freezeBelow ?? Math.floor(layers / 2);
  if (!(frozen >= 0 && frozen <= layers)) {
    throw new ConfigError(`${frozen} layers cannot be frozen.`, `This model has ${layers} layers.`);
  }
  const lora = { kind: "lora", rank, alpha: 4 * rank, dropout: 0.1 };
  const methods: readonly (readonly [name: string, adapter: Adapter, freezeBelow: number])[] = [
    ["full tuning", makeAdapter({ kind: "full" }), 0],
    ["Houlsby", makeAdapter({ kind: "houlsby" }), 0],
    ["Pfeiffer", makeAdapter({ kind: "pfeiffer" }), 0],
    ["AdaLoRA", makeAdapter({ kind: "adalora" }), 0],
    ["BitFit", makeAdapter({ kind: "bitfit" }), 0],
    ["LoRA", makeAdapter(lora), 0],
    [`LoRA + SAFE, ${frozen} of ${layers} frozen`, makeAdapter(lora), frozen],
  ];
  return methods.map(([name, adapter, below]) => {
    const { bytes, peakBytes, trainableParameters } = plan({ ...workload, adapter, freezeBelow: below });
    return { name, bytes, peakBytes, trainableParameters };
  });
}
