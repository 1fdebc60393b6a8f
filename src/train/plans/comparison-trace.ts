import type { Adapter } from "../../adapter/adapter";
import { ConfigError } from "../../base/errors";
import { rows } from "../../base/shape";
import type { Batch } from "../../data/batch";
import { IGNORED_LABEL } from "../../data/sample";
import type { ImportanceReference } from "../../freeze/policy";
import type { LoadedModel } from "../../io/load-model";
import { shapeKey, shapeOf } from "../../model/model";
import type { BatchSize, Model } from "../../model/model";
import type { Limits } from "../../op/limits";
import { cka, minibatchCka } from "../../ops/cka";
import type { Inputs } from "../../run/executor";
import { plan } from "../../tape/plan";
import type { Plan } from "../../tape/plan";
import { Recorder } from "../../tape/tape";
import type { Value } from "../../tape/tape";
import { batchInputs } from "./inputs";
import { forwardOf } from "./trace";

export interface ComparisonOptions {
  /**
   * Which output of the model without the adapter each layer is compared with: its own on the same texts ("original"), or that
   * on the input that the layer gets with the adapters below it ("own"). The lowest layer includes what lies below it, so
   * that both are the same there. Default "original".
   */
  readonly reference?: ImportanceReference | undefined;
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
 * The plan of SAFE's probe, whose outputs are the sums of `comparisonTrace`. The layers of both sides are traced alternately, so
 * that few activations exist at the same time.
 */
export function comparisonPlan(
  loaded: Pick<LoadedModel, "model" | "fragileNorms">,
  adapter: Adapter,
  shape: BatchSize,
  limits: Limits,
  options: ComparisonOptions = {},
): Plan {
  const { recorder, outputs } = comparisonTrace(loaded, adapter, shape, options);
  return plan(recorder, { outputs, limits });
}

/**
 * Traces the CKA sums of every layer's activations with the adapter (X) and without it, or with another state of it (Y), both
 * without dropout. The inputs of `probeMasks` are 1 for the tokens to compare.
 */
export function comparisonTrace(
  { model, fragileNorms }: Pick<LoadedModel, "model" | "fragileNorms">,
  adapter: Adapter,
  batch: BatchSize,
  { center = true, rename, reference: compared = "original" }: ComparisonOptions = {},
): { readonly recorder: Recorder; readonly outputs: Readonly<Record<string, Value>> } {
  const recorder = new Recorder();
  const options = { model, adapter, batch: shapeOf(batch), isTraining: false, fragileNorms };
  const adapted = forwardOf(recorder, options, adapter);
  const reference = forwardOf(recorder, options, rename && adapter);
  const renamed = <T>(record: () => T): T => (rename ? recorder.renamed(rename, record) : record());
  const outputs: Record<string, Value> = {};
  const first = adapted.stack(model.embed(adapted));
  let second = renamed(() => reference.stack(model.embed(reference)));
  for (let index = 0; index < model.layers; index++) {
    // With "own", a layer without its adapter starts from what enters the layer with it.
    if (compared === "own" && index > 0) second = reference.stack(first.hidden(), index);
    first.layer(index);
    renamed(() => second.layer(index));
    const [x, y] = [first.hidden(), second.hidden()];
    const mask = recorder.input(maskName(model, index), [rows(x.shape)], "i32");
    outputs[comparisonOutput(index)] = recorder.apply(cka, { x, y, mask }, { center });
  }
  return { recorder, outputs };
}

/** The comparison plan of each batch. Batches of one shape share a plan. */
export function comparisonPlans(
  loaded: Pick<LoadedModel, "model" | "fragileNorms">,
  adapter: Adapter,
  batches: readonly Batch[],
  limits: Limits,
  options: ComparisonOptions,
): ReadonlyMap<Batch, Plan> {
  const plansByShape = new Map<string, Plan>();
  return new Map(
    batches.map((batch) => {
      const shape = shapeKey(batch);
      const shared = plansByShape.get(shape) ?? comparisonPlan(loaded, adapter, batch, limits, options);
      plansByShape.set(shape, shared);
      return [batch, shared];
    }),
  );
}

/** What is known of a layer after one batch of a probe: its CKA sums, for `minibatchCka`, and how many rows counted. */
export interface LayerSums {
  readonly rows: number;
  readonly sums: Float32Array;
}

/**
 * The CKA sums of every layer, for each of some batches.
 * @param run runs the comparison plan of a batch.
 */
export async function layerSums(
  model: Model,
  adapter: Adapter,
  batches: readonly Batch[],
  run: (batch: Batch, inputs: Inputs) => Promise<ReadonlyMap<string, Float32Array>>,
): Promise<LayerSums[][]> {
  const results: LayerSums[][] = [];
  for (const batch of batches) {
    const masks = probeMasks(model, batch);
    const outputs = await run(batch, { ...batchInputs(model, batch, { adapter }), ...masks });
    results.push(
      Array.from({ length: model.layers }, (_, layer) => ({
        rows: masks[maskName(model, layer)]!.reduce((sum, counts) => sum + counts, 0),
        sums: outputs.get(comparisonOutput(layer))!,
      })),
    );
  }
  return results;
}

/** The similarity (CKA) of every layer over all batches, by `minibatchCka`. */
export function layerSimilarities(batches: readonly (readonly LayerSums[])[]): number[] {
  return batches[0]!.map((_, layer) => minibatchCka(batches.map((batch) => batch[layer]!)));
}

type ProbeMasks = Readonly<Record<string, Int32Array>>;

/** The tokens of a batch that are compared: those that are not padding, [size * tokens] for each number of tokens. */
export function probeMasks(model: Model, { attentionMask, labels, size }: Batch): ProbeMasks {
  const { encoderDecoder, layers } = model;
  // Images have no padding.
  const images = Array.from({ length: model.states ? layers : 0 }, (_, layer) => {
    return [maskName(model, layer), new Int32Array(size * model.states!(layer + 1).tokens).fill(1)] as const;
  });
  return {
    // In packed rows it has the numbers of texts.
    probe_mask: attentionMask.map((text) => Math.min(1, text)),
    ...Object.fromEntries(images),
    ...(encoderDecoder && {
      decoder_probe_mask: Int32Array.from(labels, (label) => (label === IGNORED_LABEL ? 0 : 1)),
    }),
  };
}

/** The input that says which tokens of a layer are compared. */
function maskName(model: Model, layer: number): string {
  const { encoderDecoder } = model;
  if (model.states) return `probe_mask of ${model.states(layer + 1).tokens} tokens`;
  return encoderDecoder && layer >= encoderDecoder.encoderLayers ? "decoder_probe_mask" : "probe_mask";
}

/** The batches of a probe. @throws ConfigError where there are none. */
export function probeBatches(probe: Batch | readonly Batch[]): readonly Batch[] {
  const batches = "size" in probe ? [probe] : probe;
  if (batches.length > 0) return batches;
  throw new ConfigError("The probe has no batches.", "Give at least one, or leave `probe` out.");
}

/** @throws ConfigError for an adapter whose layers cannot be compared with their reference. */
export function checkComparable(adapter: Adapter, reference: ImportanceReference = "original"): void {
  if (adapter.trainsInPlace) {
    throw new ConfigError(
      `${adapter.kind} tuning leaves no original model to compare with.`,
      "Use an adapter that leaves the checkpoint as it is, for example lora(), or safe() with a measure of sensitivity.",
    );
  }
  if (adapter.stack && reference === "own") {
    throw new ConfigError(
      `${adapter.kind} carries two streams: without its adapter, a layer does not read what it reads with it.`,
      'Compare with the original: reference: "original".',
    );
  }
  if (adapter.virtualTokens) {
    throw new ConfigError(
      reference === "own"
        ? `${adapter.kind} has no adapters in the layers: a layer without its own is the same layer.`
        : `${adapter.kind} lengthens every text: its layers have no counterpart to compare with.`,
      "Use an adapter of the layers, for example lora().",
    );
  }
}
