import { comparisonOutput, comparisonPlan, probeMasks } from "../src/train/plans/comparison-trace";
import { trace } from "../src/train/plans/trace";
import { finishCka } from "../src/ops/cka";
import { fixed } from "../src/freeze/fixed";
import { full } from "../src/adapter/full";
import { adapterFromConfig } from "../src/adapter/kinds";
import type { Adapter } from "../src/adapter/adapter";
import type { Batch } from "../src/data/batch";
import type { Directory } from "../src/io/directory";
import { loadModel } from "../src/io/load-model";
import { readFloatTensors } from "../src/io/safetensors";
import type { FloatTensor } from "../src/io/safetensors";
import { Executor } from "../src/run/executor";
import { gradientName } from "../src/run/store";
import { shapeOf } from "../src/model/model";
import { plan } from "../src/tape/plan";
import { batchInputs } from "../src/train/plans/inputs";
import { Trainer } from "../src/train/trainer";
import type { Engine } from "../src/engine";
import { countedElements, data, freezesOf, isNoise, movedError, readBatches, readCase, readStart } from "./golden-file";
import { relativeError, runOptions } from "./golden-file";
import type { Case, GoldenErrors } from "./golden-file";

/** Results of a golden case, with tensors named as in `expected.safetensors`. */
export interface GoldenRun {
  readonly name: string;
  readonly tensors: ReadonlyMap<string, FloatTensor>;
  readonly losses: readonly number[];
  readonly cka: readonly number[];
  readonly errors: GoldenErrors;
}

/** Runs a case of the golden format on an engine. @throws ConfigError for an adapter kind that is not supported. */
export async function runGolden(engine: Engine, directory: Directory): Promise<GoldenRun> {
  const golden = await readCase(directory);
  using loaded = await loadModel(engine, directory);
  const start = await readStart(directory);
  const batches = await readBatches(directory, golden, loaded.model.maxLength);
  const adapter = await goldenAdapter(golden);
  const tensors = new Map<string, FloatTensor>();
  using trainer = await Trainer.create({
    model: loaded,
    adapter,
    initial: start,
    ...runOptions(golden, batches),
    policy: fixed(freezesOf(golden)),
  });
  const cka = await firstForward({ golden, engine, loaded, adapter, trainer, batch: batches[0]!, tensors });
  const losses: number[] = [];
  for await (const report of trainer.steps()) {
    if (losses.length === 0) await readGradients(trainer, tensors);
    losses.push(report.loss);
  }
  const final = await trainer.state.snapshot();
  for (const name of trainer.state.specs.keys()) tensors.set(`final.${name}`, final.get(name)!);
  const expected = await readFloatTensors(directory, "expected.safetensors");
  return { name: golden.name, tensors, losses, cka, errors: compare(golden, expected, start, tensors, losses, cka) };
}

/** For adapter types of the reference that PEFT does not have: our name, and options that the cases leave out. */
const GOLDEN_KINDS: Readonly<Record<string, readonly [string, object]>> = {
  AFLORA: ["SAFETAPE_AFLORA", { d_initial: 0.1, trained_matrices: "both" }],
  BOTTLENECK: ["SAFETAPE_BOTTLENECK", {}],
  BITFIT: ["SAFETAPE_BITFIT", {}],
};

/** The adapter of a golden case. @throws ConfigError for an adapter kind that is not supported. */
export async function goldenAdapter({ adapter, modules_to_save, full: isFull }: Case): Promise<Adapter> {
  const { type, ...options } = adapter;
  if (isFull && type === "BITFIT") return full();
  const [peft_type, defaults] = GOLDEN_KINDS[type] ?? [type, {}];
  // The reference places bottlenecks by naming blocks, either one per layer or all of them.
  const blocks = Object.keys(options["blocks"] ?? {});
  const layers = new Set(blocks.map((name) => /\.(\d+)\./.exec(name)?.[1]));
  const placement = layers.size < blocks.length ? "every" : "last";
  const declared = await adapterFromConfig(
    { placement, ...defaults, ...options, modules_to_save, peft_type },
    "case.json",
  );
  // Full tuning in addition to the adapter: copies of all weights are trained.
  return isFull ? { ...declared, baseTensors: (model) => model.parameters.map(({ name }) => name) } : declared;
}

interface FirstForward {
  readonly golden: Case;
  readonly engine: Engine;
  readonly loaded: Awaited<ReturnType<typeof loadModel>>;
  readonly adapter: Adapter;
  readonly trainer: Trainer;
  readonly batch: Batch;
  readonly tensors: Map<string, FloatTensor>;
}

/**
 * Adds the logits and the layer outputs of the first step, with and without the adapter, to `tensors`. Returns the CKA of each
 * layer's outputs with and without the adapter, over all positions.
 */
async function firstForward(parts: FirstForward): Promise<number[]> {
  const { golden, engine, loaded, adapter, trainer, batch, tensors } = parts;
  const { model, fragileNorms } = loaded;
  const shape = shapeOf(batch);
  using executor = new Executor(engine.device);
  for (const [prefix, hooks] of [
    ["layer", adapter],
    ["origin", undefined],
  ] as const) {
    const traced = trace({ model, adapter: hooks, batch: shape, isTraining: false, fragileNorms });
    const layers = Object.fromEntries(traced.layers.map((value, i) => [`${prefix}.${i}`, value]));
    const outputs = hooks ? { ...layers, logits: traced.logits } : layers;
    const forwardPlan = plan(traced.tape, { outputs, limits: engine.device.limits });
    await executor.hold([forwardPlan]);
    const inputs = batchInputs(model, batch, { adapter });
    const results = await executor.run(forwardPlan, trainer.state, inputs);
    for (const [name, value] of Object.entries(outputs)) {
      const layer = name === "logits" ? model.layers : Number(name.slice(prefix.length + 1));
      const elements = results.get(name)!;
      const isPerToken = value.shape.length === 3;
      const data = isPerToken ? countedElements(golden, layer, batch, elements) : elements;
      tensors.set(name, { shape: value.shape, data });
    }
  }
  const planned = comparisonPlan({ model, fragileNorms }, adapter, shape, engine.device.limits);
  await executor.hold([planned]);
  const ones = (tokens: number): Int32Array => new Int32Array(batch.size * tokens).fill(1);
  const inputs = {
    ...batchInputs(model, batch, { adapter }),
    ...probeMasks(model, batch),
    probe_mask: ones(batch.length),
    decoder_probe_mask: ones(batch.targetLength ?? 0),
  };
  const sums = await executor.run(planned, trainer.state, inputs);
  // Where the weights themselves are trained, there are no outputs without the adapter to compare with.
  const isCompared = !adapter.trainsInPlace;
  return Array.from({ length: model.layers }, (_, i) => (isCompared ? finishCka(sums.get(comparisonOutput(i))!) : 1));
}

async function readGradients(trainer: Trainer, tensors: Map<string, FloatTensor>): Promise<void> {
  for (const [name, { shape }] of trainer.state.live) {
    const data = await trainer.state.tensor(gradientName(name)).read();
    tensors.set(`grad.${name}`, { shape, data });
  }
}

function compare(
  golden: Case,
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
    loss: Math.max(...golden.losses.map((loss, i) => Math.abs(losses[i]! - loss) / Math.abs(loss))),
    logits: worst(/^logits$/, relative),
    layers: worst(/^(layer|origin)\./, relative),
    gradients: worst(/^grad\./, (name) => (isNoise(name, golden) ? 0 : relative(name))),
    final: worst(/^final\./, (name) => {
      if (isNoise(name, golden)) return 0;
      const from = data(start, name.replace("final.", ""));
      return movedError(name, data(actual, name), data(expected, name), from);
    }),
    cka: Math.max(0, ...golden.cka.map((value, i) => Math.abs(cka[i]! - value) / value)),
  };
}
