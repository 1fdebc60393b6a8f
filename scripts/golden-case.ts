import { comparisonOutput, trace, traceComparison } from "../src/train/trace";
import { finishCka } from "../src/ops/shared/finish-cka";
import { fixed } from "../src/freeze/fixed";
import { full } from "../src/adapter/full";
import { adapterFromConfig } from "../src/adapter/kinds";
import type { Adapter } from "../src/adapter/adapter";
import type { Batch } from "../src/data/batch";
import type { Directory } from "../src/io/directory";
import { readJson } from "../src/io/json";
import { loadModel } from "../src/io/load-model";
import { readFloatTensors, readSafetensors } from "../src/io/safetensors";
import type { FloatTensor, HostTensor } from "../src/io/safetensors";
import { Executor } from "../src/run/executor";
import { gradientName } from "../src/run/store";
import { layerOf } from "../src/model/model";
import { plan } from "../src/tape/plan";
import { batchInputs } from "../src/train/inputs";
import { Trainer } from "../src/train/trainer";
import type { Engine } from "../src/engine";
import * as v from "valibot";

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
  cka: NUMBERS,
});

type Case = v.InferOutput<typeof CASE>;

/** What a golden case gave here, in the names of `expected.safetensors`. */
export interface GoldenRun {
  readonly name: string;
  readonly tensors: ReadonlyMap<string, FloatTensor>;
  readonly losses: readonly number[];
  readonly cka: readonly number[];
  readonly errors: GoldenErrors;
}

/** Worst relative errors; final tensors relative to the distance moved. */
export interface GoldenErrors {
  readonly loss: number;
  readonly logits: number;
  readonly layers: number;
  readonly gradients: number;
  readonly final: number;
  readonly cka: number;
}

/** The limits. */
export const GOLDEN_LIMITS: GoldenErrors = {
  ...{ loss: 5e-6, logits: 2e-5, layers: 2e-5, gradients: 1e-4, final: 5e-3, cka: 2e-5 },
};

/** Runs a case of the golden format on an engine. @throws ConfigError for an adapter kind that is not supported. */
export async function runGolden(engine: Engine, directory: Directory): Promise<GoldenRun> {
  const told = await readJson(directory, "case.json", CASE);
  const config = await readJson(
    directory,
    "config.json",
    v.looseObject({ label_smoothing: v.optional(v.number(), 0) }),
  );
  using loaded = await loadModel(engine, directory);
  const start = new Map(
    [...(await readFloatTensors(directory, "start.safetensors"))].map(([name, tensor]) => [
      name.replace(/^fixed\./, ""),
      tensor,
    ]),
  );
  const steps = goldenBatches(
    await readSafetensors(directory, "batches.safetensors"),
    told.steps,
    loaded.model.maxLength,
  );
  const adapter = goldenAdapter(told);
  const { optimizer: o } = told;
  const tensors = new Map<string, FloatTensor>();
  let next = 0;
  using trainer = await Trainer.create({
    ...{
      model: loaded,
      adapter,
      steps: told.steps,
      labelSmoothing: config.label_smoothing,
      initial: start,
      dropout: false,
    },
    data: { perEpoch: told.steps, next: () => steps[next++] as Batch },
    optimizer: {
      ...{ learningRate: o.lr, betas: o.betas, eps: o.eps, weightDecay: o.weight_decay, maxGradNorm: o.max_grad_norm },
    },
    schedule: o.schedule ? { type: "linear", warmupSteps: o.schedule.warmup_steps } : { type: "constant" },
    policy: fixed(told.freeze.map(({ before_step: beforeStep, tensors: names }) => ({ beforeStep, tensors: names }))),
  });
  const cka = await firstForward({ engine, loaded, adapter, trainer, batch: steps[0] as Batch, tensors });
  const losses: number[] = [];
  for await (const report of trainer.steps()) {
    if (losses.length === 0) await readGradients(trainer, tensors);
    losses.push(report.loss);
  }
  const final = await trainer.state.snapshot();
  for (const name of trainer.state.specs.keys()) tensors.set(`final.${name}`, final.get(name) as FloatTensor);
  const expected = await readFloatTensors(directory, "expected.safetensors");
  return { name: told.name, tensors, losses, cka, errors: compare(told, expected, start, tensors, losses, cka) };
}

/** Names of the reference's adapters that differ from ours, and what they leave unsaid. */
const GOLDEN_KINDS: Readonly<Record<string, readonly [string, object]>> = {
  AFLORA: ["SAFETAPE_AFLORA", { d_initial: 0.1, trains_square: true }],
  BOTTLENECK: ["SAFETAPE_BOTTLENECK", {}],
  BITFIT: ["SAFETAPE_BITFIT", {}],
};

function goldenAdapter({ adapter, modules_to_save, full: isFull }: Case): Adapter {
  const { type, ...options } = adapter;
  if (isFull && type === "BITFIT") return full();
  const [peft_type, own] = GOLDEN_KINDS[type] ?? [type, {}];
  // The reference runs place a bottleneck by naming blocks: one a layer, or all.
  const blocks = Object.keys(options["blocks"] ?? {});
  const placement = new Set(blocks.map((name) => layerOf(`${name}.`))).size < blocks.length ? "every" : "last";
  const made = adapterFromConfig({ placement, ...own, ...options, modules_to_save, peft_type }, "case.json");
  // Full tuning beside an adapter: copies of everything learn.
  return isFull ? { ...made, baseTensors: (model) => model.parameters.map(({ name }) => name) } : made;
}

/** Each step's batch out of tensors stacked on a first axis of steps. */
function goldenBatches(stacked: ReadonlyMap<string, HostTensor>, count: number, tokens: number): Batch[] {
  const [, size = 0, width = 0] = (stacked.get("input_ids") ?? stacked.get("pixel_values"))?.shape ?? [];
  const length = stacked.has("input_ids") ? width : tokens;
  const part = (name: string, step: number): Int32Array | Float32Array | undefined => {
    const data = stacked.get(name)?.data;
    return data?.subarray((step * data.length) / count, ((step + 1) * data.length) / count);
  };
  const whole = (name: string, step: number): Int32Array | undefined => part(name, step) as Int32Array | undefined;
  return Array.from({ length: count }, (_, step) => {
    const pixels = part("pixel_values", step) as Float32Array | undefined;
    return {
      ...{ size, length, rows: size },
      inputIds: whole("input_ids", step) ?? new Int32Array(size * length),
      attentionMask: whole("attention_mask", step) ?? new Int32Array(size * length).fill(1),
      tokenTypeIds: whole("token_type_ids", step) ?? new Int32Array(size * length),
      labels: part("labels", step) as Int32Array | Float32Array,
      ...(pixels && { pixels }),
    };
  });
}

interface FirstForward {
  readonly engine: Engine;
  readonly loaded: Awaited<ReturnType<typeof loadModel>>;
  readonly adapter: Adapter;
  readonly trainer: Trainer;
  readonly batch: Batch;
  readonly tensors: Map<string, FloatTensor>;
}

/** Logits and layer outputs of the first step, with the adapter and without, and their CKA over all positions. */
async function firstForward(parts: FirstForward): Promise<number[]> {
  const { engine, loaded, adapter, trainer, batch, tensors } = parts;
  const { model, fragileNorms } = loaded;
  const shape = { size: batch.size, length: batch.length };
  using executor = new Executor(engine.device);
  for (const [prefix, hooks] of [
    ["layer", adapter],
    ["origin", undefined],
  ] as const) {
    const traced = trace({ model, adapter: hooks, batch: shape, isTraining: false, fragileNorms });
    const layers = Object.fromEntries(traced.layers.map((value, i) => [`${prefix}.${i}`, value]));
    const outputs = hooks ? { ...layers, logits: traced.logits } : layers;
    const planned = plan(traced.tape, { outputs, limits: engine.device.limits });
    await executor.hold([planned]);
    const found = await executor.run(
      planned,
      trainer.state,
      batchInputs(model, batch, { virtualTokens: adapter.virtualTokens }),
    );
    for (const [name, value] of Object.entries(outputs)) {
      tensors.set(name, { shape: value.shape, data: found.get(name) as Float32Array });
    }
  }
  const compared = traceComparison({ model, adapter, batch: shape, isTraining: false, fragileNorms }, true);
  const planned = plan(compared.tape, { outputs: compared.outputs, limits: engine.device.limits });
  await executor.hold([planned]);
  const probe_mask = new Int32Array(batch.size * batch.length).fill(1);
  const inputs = { ...batchInputs(model, batch, { virtualTokens: adapter.virtualTokens }), probe_mask };
  const sums = await executor.run(planned, trainer.state, inputs);
  const isMoved = !adapter.trainsInPlace;
  return Array.from({ length: model.layers }, (_, i) =>
    isMoved ? finishCka(sums.get(comparisonOutput(i)) as Float32Array) : 1,
  );
}

async function readGradients(trainer: Trainer, tensors: Map<string, FloatTensor>): Promise<void> {
  for (const [name, { shape }] of trainer.state.live) {
    const data = (await trainer.state.tensor(gradientName(name)).read()) as Float32Array;
    tensors.set(`grad.${name}`, { shape, data });
  }
}

function compare(
  told: Case,
  expected: ReadonlyMap<string, FloatTensor>,
  start: ReadonlyMap<string, FloatTensor>,
  actual: ReadonlyMap<string, FloatTensor>,
  losses: readonly number[],
  cka: readonly number[],
): GoldenErrors {
  const worst = (prefix: RegExp, error: (name: string) => number): number =>
    Math.max(0, ...[...expected.keys()].filter((name) => prefix.test(name)).map(error));
  const relative = (name: string): number => relativeError(data(actual, name), data(expected, name));
  return {
    loss: Math.max(...told.losses.map((loss, i) => Math.abs((losses[i] as number) - loss) / Math.abs(loss))),
    logits: worst(/^logits$/, relative),
    layers: worst(/^(layer|origin)\./, relative),
    gradients: worst(/^grad\./, (name) => (isNoise(name) ? 0 : relative(name))),
    final: worst(/^final\./, (name) => {
      const from = data(start, name.replace("final.", ""));
      return isNoise(name) ? 0 : movedError(data(actual, name), data(expected, name), from, isFused(name));
    }),
    cka: Math.max(...told.cka.map((value, i) => Math.abs((cka[i] as number) - value) / value)),
  };
}

const data = (tensors: ReadonlyMap<string, FloatTensor>, name: string): Float32Array => {
  const found = tensors.get(name);
  if (!found) throw new Error(`The run gave no ${name}.`);
  return found.data;
};

/** A key's bias has no gradient but rounding noise (softmax ignores it): its value means nothing. */
const isNoise = (name: string): boolean => /\.(?:key|k_proj)\.bias$/.test(name);
/** ... nor do the key's columns of a fused q | k | v bias. */
const isFused = (name: string): boolean => /c_attn\.bias$/.test(name);

function relativeError(actual: Float32Array, expected: Float32Array): number {
  let worst = 0;
  let largest = 1e-30;
  expected.forEach((value, i) => {
    worst = larger(worst, Math.abs((actual[i] as number) - value));
    largest = Math.max(largest, Math.abs(value));
  });
  return worst / largest;
}

function movedError(actual: Float32Array, expected: Float32Array, start: Float32Array, fused: boolean): number {
  let error = 0;
  let moved = 0;
  expected.forEach((value, i) => {
    const third = expected.length / 3;
    if (fused && i >= third && i < 2 * third) return;
    error += ((actual[i] as number) - value) ** 2;
    moved += (value - (start[i] as number)) ** 2;
  });
  return Math.sqrt(error) / Math.max(1e-30, Math.sqrt(moved));
}

/** The larger of two, NaN if one is: a maximum must not hide it. */
const larger = (a: number, b: number): number => (a >= b ? a : b);
