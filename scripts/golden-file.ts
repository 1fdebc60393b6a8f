// Reads the files of a golden case, in Node and in a browser's page.
import * as v from "valibot";
import type { Batch } from "../src/data/batch";
import { IGNORED_LABEL } from "../src/data/sample";
import type { Directory } from "../src/io/directory";
import { readJson } from "../src/io/json";
import { readFloatTensors, readSafetensors } from "../src/io/safetensors";
import type { FloatTensor, HostTensor } from "../src/io/safetensors";

const NUMBERS = v.array(v.number());
const CASE = v.object({
  name: v.string(),
  steps: v.number(),
  adapter: v.looseObject({ type: v.string() }),
  full: v.optional(v.boolean(), false),
  modules_to_save: v.optional(v.array(v.string()), []),
  optimizer: v.object({
    lr: v.number(),
    betas: v.optional(v.tuple([v.number(), v.number()]), [0.9, 0.999]),
    eps: v.optional(v.number(), 1e-8),
    weight_decay: v.optional(v.number(), 0),
    max_grad_norm: v.optional(v.number(), 0),
    schedule: v.optional(v.object({ type: v.string(), warmup_steps: v.number() })),
  }),
  freeze: v.optional(v.array(v.object({ before_step: v.number(), tensors: v.array(v.string()) })), []),
  losses: NUMBERS,
  cka: v.optional(NUMBERS, []),
  /** Says that what was computed at padded positions is stored as zeros. */
  counted_positions: v.optional(v.unknown()),
  /** Number of layers of an encoder-decoder's encoder. */
  encoder_layers: v.optional(v.number(), Infinity),
  /** Tensors whose gradient is only rounding. */
  noise: v.optional(v.array(v.string()), []),
});

export type Case = v.InferOutput<typeof CASE> & { readonly labelSmoothing: number };

/** Largest relative errors of a run. Those of final tensors are relative to the distance that the tensor moved. */
export interface GoldenErrors {
  readonly loss: number;
  readonly logits: number;
  readonly layers: number;
  readonly gradients: number;
  readonly final: number;
  readonly cka: number;
}

/** Largest errors allowed. */
export const GOLDEN_LIMITS: GoldenErrors = {
  loss: 5e-6,
  logits: 2e-5,
  layers: 2e-5,
  gradients: 1e-4,
  final: 5e-3,
  cka: 2e-5,
};

/** Reads case.json, and the label smoothing from config.json. */
export async function readCase(directory: Directory): Promise<Case> {
  const smoothing = v.looseObject({ label_smoothing: v.optional(v.number(), 0) });
  const { label_smoothing: labelSmoothing } = await readJson(directory, "config.json", smoothing);
  return { ...(await readJson(directory, "case.json", CASE)), labelSmoothing };
}

/** Reads the adapter's tensors before the first step, both trained and fixed ones. */
export async function readStart(directory: Directory): Promise<Map<string, FloatTensor>> {
  const stored = await readFloatTensors(directory, "start.safetensors");
  return new Map([...stored].map(([name, tensor]) => [name.replace(/^fixed\./, ""), tensor]));
}

/** The trainer options of a case, except model, adapter and policy. */
export function runOptions({ steps, optimizer: o, labelSmoothing }: Case, batches: readonly Batch[]) {
  let next = 0;
  return {
    steps,
    labelSmoothing,
    dropout: false,
    data: { perEpoch: steps, next: () => batches[next++]! },
    optimizer: {
      learningRate: o.lr,
      betas: o.betas,
      eps: o.eps,
      weightDecay: o.weight_decay,
      maxGradNorm: o.max_grad_norm,
    },
    schedule: o.schedule
      ? { type: "linear" as const, warmupSteps: o.schedule.warmup_steps }
      : { type: "constant" as const },
  };
}

/** The freezes of a case, as the policy `fixed` takes them. */
export const freezesOf = ({ freeze }: Case): { readonly beforeStep: number; readonly tensors: string[] }[] =>
  freeze.map(({ before_step: beforeStep, tensors }) => ({ beforeStep, tensors }));

/** Reads the batch of each step. `tokens` is the sequence length for models of images. */
export async function readBatches(
  directory: Directory,
  { steps, encoder_layers }: Case,
  tokens: number,
): Promise<Batch[]> {
  const stacked = await readSafetensors(directory, "batches.safetensors");
  return goldenBatches(stacked, steps, { tokens, isSeq2seq: encoder_layers < Infinity });
}

/** Splits tensors whose first axis is the step into the batch of each step. */
function goldenBatches(
  stacked: ReadonlyMap<string, HostTensor>,
  count: number,
  { tokens, isSeq2seq }: { readonly tokens: number; readonly isSeq2seq: boolean },
): Batch[] {
  const [, size = 0, width = 0] = (stacked.get("input_ids") ?? stacked.get("pixel_values"))?.shape ?? [];
  const length = stacked.has("input_ids") ? width : tokens;
  const hasTarget = isSeq2seq && { targetLength: stacked.get("labels")?.shape[2] };
  const part = (name: string, step: number): Int32Array | Float32Array | undefined => {
    const data = stacked.get(name)?.data;
    return data?.subarray((step * data.length) / count, ((step + 1) * data.length) / count);
  };
  const integers = (name: string, step: number) => part(name, step) as Int32Array | undefined; // i32 in all cases
  const floats = (name: string, step: number) => part(name, step) as Float32Array | undefined; // f32 in all cases
  return Array.from({ length: count }, (_, step) => {
    const pixels = floats("pixel_values", step);
    return {
      size,
      length,
      ...hasTarget,
      rows: size,
      inputIds: integers("input_ids", step) ?? new Int32Array(size * length),
      attentionMask: integers("attention_mask", step) ?? new Int32Array(size * length).fill(1),
      tokenTypeIds: integers("token_type_ids", step) ?? new Int32Array(size * length),
      labels: part("labels", step)!,
      ...(pixels && { pixels }),
    };
  });
}

/** The elements of a layer's output, or of logits, at counted positions of a batch; the others are zeros. */
export function countedElements(golden: Case, layer: number, batch: Batch, elements: Float32Array): Float32Array {
  if (golden.counted_positions === undefined) return elements;
  const isDecoder = layer >= golden.encoder_layers;
  const counts = isDecoder ? Array.from(batch.labels, (label) => label !== IGNORED_LABEL) : batch.attentionMask;
  const width = elements.length / counts.length;
  return elements.map((element, i) => (counts[Math.floor(i / width)] ? element : 0));
}

/** The data of a tensor. @throws Error if the run has no tensor of this name. */
export const data = (tensors: ReadonlyMap<string, FloatTensor>, name: string): Float32Array => {
  const tensor = tensors.get(name);
  if (!tensor) throw new Error(`The run has no tensor ${name}.`);
  return tensor.data;
};

/** Whether a tensor is the bias of a key. Softmax is invariant to it, so its gradient is only rounding noise. */
export const isNoise = (name: string, { noise }: Pick<Case, "noise">): boolean =>
  /\.(?:key|k_proj)\.bias$/.test(name) || noise.some((tensor) => name.endsWith(tensor));
/** Whether a tensor is a fused bias q | k | v, whose middle third is the key's. */
const isFusedBias = (name: string): boolean => /c_attn\.bias$/.test(name);

/** Largest difference over the largest expected magnitude; NaN if an element is NaN. */
export function relativeError(actual: Float32Array, expected: Float32Array): number {
  let worst = 0;
  let largest = 1e-30;
  expected.forEach((value, i) => {
    worst = larger(worst, Math.abs(actual[i]! - value));
    largest = Math.max(largest, Math.abs(value));
  });
  return worst / largest;
}

/** Norm of a final tensor's error over the distance that it moved in training, without parts that are only noise. */
export function movedError(name: string, actual: Float32Array, expected: Float32Array, start: Float32Array): number {
  const isFused = isFusedBias(name);
  let error = 0;
  let moved = 0;
  expected.forEach((value, i) => {
    const third = expected.length / 3;
    if (isFused && i >= third && i < 2 * third) return;
    error += (actual[i]! - value) ** 2;
    moved += (value - start[i]!) ** 2;
  });
  return Math.sqrt(error) / Math.max(1e-30, Math.sqrt(moved));
}

/** The larger of two numbers, or NaN if one of them is NaN. */
const larger = (a: number, b: number): number => (a >= b ? a : b);
