import type { Adapter } from "../../adapter/adapter";
import { ConfigError } from "../../base/errors";
import type { LoadedModel } from "../../io/load-model";
import type { BatchSize } from "../../model/model";
import type { Limits } from "../../op/limits";
import { cka } from "../../ops/cka";
import { plan } from "../../tape/plan";
import type { Plan } from "../../tape/plan";
import { Recorder } from "../../tape/tape";
import type { Value } from "../../tape/tape";
import { forwardOf } from "./trace";

export interface ComparisonOptions {
  /** Whether column means are subtracted before CKA. Default true. */
  readonly center?: boolean;
  /**
   * Compares with the same adapter, whose tensors have these names, for example those of a later snapshot. Default: compares
   * with the model without the adapter.
   */
  readonly rename?: ((name: string) => string) | undefined;
}

/** Output of a comparison plan that holds the CKA sums of a layer, for `finishCka`. */
export const comparisonOutput = (layer: number): string => `cka of layer ${layer}`;

/**
 * The plan of SAFE's probe: the CKA sums of every layer's activations with the adapter (X) and without it, or with another
 * state of it (Y), both without dropout. Its input `probe_mask` [size * length] is 1 for the tokens to compare. The layers
 * of both are traced alternately, so that no more than one pair of activations exists at the same time.
 */
export function comparisonPlan(
  { model, fragileNorms }: Pick<LoadedModel, "model" | "fragileNorms">,
  adapter: Adapter,
  { size, length }: BatchSize,
  limits: Limits,
  { center = true, rename }: ComparisonOptions = {},
): Plan {
  const recorder = new Recorder();
  const options = { model, adapter, batch: { size, length }, isTraining: false, fragileNorms };
  const adapted = forwardOf(recorder, options, adapter);
  const reference = forwardOf(recorder, options, rename && adapter);
  const renamed = (record: () => Value): Value => (rename ? recorder.renamed(rename, record) : record());
  const mask = recorder.input("probe_mask", [size * length], "i32");
  const outputs: Record<string, Value> = {};
  let x = model.embed(adapted);
  let y = renamed(() => model.embed(reference));
  for (let index = 0; index < model.layers; index++) {
    const below = y;
    x = model.layer(adapted, index, x);
    y = renamed(() => model.layer(reference, index, below));
    outputs[comparisonOutput(index)] = recorder.apply(cka, { x, y, mask }, { center });
  }
  return plan(recorder, { outputs, limits });
}

/** @throws ConfigError for an adapter whose layers have no counterpart in the original model. */
export function checkComparable(adapter: Adapter): void {
  if (adapter.trainsInPlace) {
    throw new ConfigError(
      `${adapter.kind} tuning leaves no original model to compare with.`,
      "Use an adapter that leaves the checkpoint as it is, for example lora().",
    );
  }
  if (adapter.virtualTokens) {
    throw new ConfigError(
      `${adapter.kind} lengthens every text: its layers have no counterpart to compare with.`,
      "Use an adapter of the layers, for example lora().",
    );
  }
}
