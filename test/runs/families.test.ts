import { beforeAll, describe, expect, it } from "vitest";
import {
  afloraFreezing,
  createModel,
  dora,
  generate,
  initialiseModel,
  loadAdapter,
  loadModel,
  lora,
  loraPrune,
  plan,
  safe,
  saveAdapter,
  saveMerged,
  Trainer,
} from "safetape";
import { ADAPTER_KINDS, makeAdapter } from "safetape/analysis";
import { ConfigError, sgd } from "safetape/engine";
import { makeBatch, memoryDirectory } from "safetape/data";
import type { Adapter, FreezePolicy, LoadedModel, StepReport, TrainerOptions, WeightFormat } from "safetape";
import { adapterLogits } from "../../scripts/interop-case";
import type { Tensors } from "../../src/adapter/adapter";
import type { Engine } from "../../src/engine";
import { relativeError } from "../../src/base/relative-error";
import { writeCheckpoint } from "../../src/io/checkpoint";
import { expectToKeepBudget } from "../support/budget";
import { testDevice } from "../support/device";
import { useEngineOfSuite } from "../support/engine";
import { failure } from "../support/failure";
import { tiny, tinyData, TRIES_ALL_FAMILIES } from "../support/tiny";
import type { Config } from "../support/tiny";

/**
 * What holds for one family holds for all: every family with every feature, each by the property that defines it. All pairs
 * run in `npm run test:families`, a few that differ most in `npm test`.
 */
type FamilyName = keyof typeof tiny;
// `tiny` has no other keys.
const FAMILY_NAMES = Object.keys(tiny) as FamilyName[];

/** The engine of the pairs that run. */
let engine: Engine;

/** Weights large enough for visible effects of small changes. */
const open = (family: FamilyName, weights: WeightFormat = "f32", overrides: Config = {}): Promise<LoadedModel> =>
  initialiseModel(engine, tiny[family]({ initializer_range: 0.2, ...overrides }), { weights });

const everywhere = () => lora({ rank: 2, alpha: 8, targets: "all-linear", dropout: 0.1 });
const doraEverywhere = () => dora({ rank: 2, alpha: 8, targets: "all-linear", dropout: 0.1 });

interface Trained {
  readonly reports: readonly StepReport[];
  readonly losses: readonly number[];
  /** Values of the trained tensors by name. */
  readonly tensors: Readonly<Record<string, readonly number[]>>;
}

/** A run of six steps, whose ledger is that of its plan after each of them. */
async function train(model: LoadedModel, options: Partial<TrainerOptions> = {}): Promise<Trained> {
  using trainer = await makeTrainer(model, options);
  const reports = await stepsOf(trainer);
  const tensors = [...(await trainer.snapshot())].map(([name, { data }]) => [name, [...data]] as const);
  return { reports, losses: reports.map(({ loss }) => loss), tensors: Object.fromEntries(tensors) };
}

function makeTrainer(model: LoadedModel, options: Partial<TrainerOptions> = {}): Promise<Trainer> {
  return Trainer.create({
    model,
    adapter: everywhere(),
    data: tinyData(model),
    steps: 6,
    seed: 3,
    optimizer: { learningRate: 5e-3 },
    warn: () => undefined,
    ...options,
  });
}

async function stepsOf(trainer: Trainer): Promise<StepReport[]> {
  const reports: StepReport[] = [];
  for await (const report of trainer.steps()) {
    expect(report.bytes, `ledger against plan after step ${report.step}`).toEqual(trainer.predictedBytes());
    reports.push(report);
  }
  return reports;
}

/** Freezes the lowest live layer after every second step. */
const bottomUp = (): FreezePolicy => ({
  kind: "freezing",
  name: "bottom up",
  settings: {},
  start: () => ({
    isDue: ({ step }) => step > 0 && step % 2 === 0,
    decide: ({ live }) => Promise.resolve(live.size < 2 ? [] : live.get(Math.min(...live.keys()))!),
  }),
});

function expectClose(actual: readonly number[], expected: readonly number[], limit: number): void {
  expect(actual).toHaveLength(expected.length);
  actual.forEach((loss, i) => {
    expect(Math.abs(loss / expected[i]! - 1), `step ${i + 1}: ${loss}, ${expected[i]}`).toBeLessThan(limit);
  });
}

/** The weights of all layers are one tensor, so no layer can freeze alone. */
const isShared = (family: FamilyName): boolean => family === "albert";

type Feature = (family: FamilyName) => Promise<void>;

const recomputed =
  (recompute: "mlp" | "layers"): Feature =>
  async (family) => {
    using model = await open(family);
    const plain = await train(model);
    const twice = await train(model, { memory: { recompute } });
    expect(twice.losses).toEqual(plain.losses);
    expect(twice.tensors).toEqual(plain.tensors);
    expect(twice.reports[0]!.bytes.saved).toBeLessThan(plain.reports[0]!.bytes.saved);
  };

const activations =
  (format: "f16" | "bf16", limit: number): Feature =>
  async (family) => {
    using model = await open(family);
    const run = { steps: 1, optimizer: sgd({ learningRate: 1e-2 }) };
    const exact = await train(model, run);
    const packed = await train(model, { ...run, memory: { activations: format } });
    expect(packed.losses[0], "the forward pass is the same").toBe(exact.losses[0]);
    expect(packed.reports[0]!.bytes.saved).toBeLessThan(0.7 * exact.reports[0]!.bytes.saved);
    // LoRA's B begins with zeros, so that after a step down the gradient it is that gradient. What further steps make of its
    // rounding depends on how steep the loss is: Swin v2's differs by 11 % after two steps of AdamW.
    const isB = ([name]: readonly [string, ...unknown[]]): boolean => name.endsWith("lora_B.weight");
    const gradients = Object.entries(packed.tensors).filter(isB);
    expect(packed.tensors).not.toEqual(exact.tensors);
    for (const [name, values] of gradients) {
      const expected = exact.tensors[name]!;
      if (expected.every((value) => value === 0)) continue;
      expect(relativeError(Float32Array.from(values), Float32Array.from(expected)), name).toBeLessThan(limit);
    }
  };

/** Quantised weights give the losses of the same weights in f32. */
const weights =
  (format: WeightFormat, makeAdapterOfRun = everywhere): Feature =>
  async (family) => {
    const options = { memory: { recompute: "layers" as const }, steps: 4, adapter: makeAdapterOfRun() };
    const packed = await open(family, format);
    const read = [...packed.weights].map(async ([name, tensor]) => {
      return { name, shape: tensor.shape, data: await tensor.read() };
    });
    const directory = memoryDirectory("dequantised");
    const { config, parameters } = packed.model;
    const isStored = (name: string): boolean => parameters.some((parameter) => parameter.name === name);
    const stored = (await Promise.all(read)).filter(({ name }) => isStored(name));
    await writeCheckpoint(directory, config, stored);
    const bytesOf = ({ weights: tensors }: LoadedModel): number =>
      [...tensors.values()].reduce((sum, { bytes }) => sum + bytes, 0);
    const bytes = bytesOf(packed);
    const { losses } = await train(packed, options);
    packed.dispose();
    using dequantised = await loadModel(engine, directory);
    expect(bytes).toBeLessThan(bytesOf(dequantised));
    expectClose(losses, (await train(dequantised, options)).losses, 2e-5);
  };

const mergingOnFreeze =
  (makeAdapterOfRun: () => Adapter): Feature =>
  async (family) => {
    using model = await open(family);
    const valuesOf = () => Promise.all([...model.weights.values()].map((tensor) => tensor.read()));
    const before = await valuesOf();
    const options = { policy: bottomUp(), dropout: false, adapter: makeAdapterOfRun() };
    const plain = await train(model, options);
    const merging = await train(model, { ...options, mergeOnFreeze: true });
    expectClose(merging.losses, plain.losses, 5e-5);
    if (!isShared(family)) expect(merging.reports.at(-1)!.flops).toBeLessThan(plain.reports.at(-1)!.flops);
    expect(await valuesOf(), "weights after the run").toEqual(before);
  };

async function logitsOf(model: LoadedModel, adapter: Adapter, tensors: Tensors = new Map()): Promise<Float32Array> {
  return (await adapterLogits(model, adapter, tensors, tinyData(model).next())).data;
}

/** Options of an adapter kind where its defaults do not fit tiny models. */
const ADAPTERS: Readonly<Record<string, Config>> = {
  lora: { rank: 2, targets: "all-linear", dropout: 0.1 },
  dora: { rank: 2, targets: "all-linear" },
  aflora: { rank: 3 },
  adalora: { initialRank: 4, targetRank: 2, warmupSteps: 1, finalSteps: 1, every: 1 },
  sora: { rank: 3, threshold: 0.05, penalty: 0.1 },
  prompt: { tokens: 3 },
  p_tuning: { tokens: 3, encoderSize: 5 },
  prefix_tuning: { tokens: 3 },
  vera: { rank: 5, targets: "all-linear" },
  loha: { rank: 2, targets: "all-linear" },
  lokr: { rank: 1, targets: "all-linear" },
  oft: { blockSize: 4, targets: "all-linear" },
  houlsby: { size: 4 },
  pfeiffer: { size: 4 },
  meft: { stateEvery: 2 },
};
const MERGED = [
  "lora",
  "dora",
  "aflora",
  "adalora",
  "sora",
  "vera",
  "ia3",
  "bitfit",
  "ln_tuning",
  "loha",
  "lokr",
  "oft",
];
const AS_LORA = ["lora", "aflora", "adalora", "sora", "vera", "loha"];

const adapterOf =
  (kind: string): Feature =>
  async (family) => {
    using model = await open(family);
    const hasBiases = model.model.projections.some(({ bias, role }) => bias && role !== undefined);
    const options = kind === "bitfit" ? { addBiases: !hasBiases } : ADAPTERS[kind];
    const adapter = makeAdapter({ kind, ...options });
    // What is learned in eight steps can be less than what dropout does to them.
    using trainer = await makeTrainer(model, { adapter, steps: 8, dropout: false, optimizer: { learningRate: 1e-2 } });
    const before = await trainer.evaluate(tinyData(model).restOfEpoch());
    await stepsOf(trainer);
    const after = await trainer.evaluate(tinyData(model).restOfEpoch());
    expect(after.loss, "what is learned").toBeLessThan(before.loss);
    // What full tuning trains are the model's own weights.
    if (kind === "full") return;
    const tensors = await trainer.snapshot();
    const expected = await logitsOf(model, adapter, tensors);
    const folder = memoryDirectory("adapter");
    await saveAdapter(folder, trainer);
    const loaded = await loadAdapter(folder, model);
    // AdaLoRA leaves pruned triplets out, so that its sums have fewer terms; P-tuning's network is not saved, but what it makes.
    const isExact = !["adalora", "p_tuning"].includes(kind);
    const error = relativeError(await logitsOf(model, loaded.adapter, loaded.tensors), expected);
    expect(error, "after loading").toBeLessThanOrEqual(isExact ? 0 : 1e-5);
    if (AS_LORA.includes(kind)) {
      const plain = memoryDirectory("as LoRA");
      await saveAdapter(plain, trainer, { as: "lora" });
      const asLora = await loadAdapter(plain, model);
      expect(relativeError(await logitsOf(model, asLora.adapter, asLora.tensors), expected)).toBeLessThan(1e-5);
    }
    const merged = memoryDirectory("merged");
    if (!MERGED.includes(kind)) {
      expect((await failure(saveMerged(merged, trainer))).message).toMatch(/cannot be merged/);
      return;
    }
    // A bias that is added can only be merged where config.json has a key for it.
    const { projections, biasKeys = {} } = model.model;
    const roles = new Set(Object.values(biasKeys).flat());
    if (kind === "bitfit" && !hasBiases && projections.some(({ role }) => role !== undefined && !roles.has(role))) {
      expect((await failure(saveMerged(merged, trainer))).message).toMatch(/cannot express/);
      return;
    }
    await saveMerged(merged, trainer);
    using mergedModel = await loadModel(engine, merged);
    expect(relativeError(await logitsOf(mergedModel, lora({ rank: 1 })), expected), "merged").toBeLessThan(2e-5);
  };

const generation =
  (kind: "dropped" | "lora"): Feature =>
  async (family) => {
    using model = await open(family);
    const adapter = kind === "lora" ? everywhere() : undefined;
    const tensors = adapter ? await trainedTensors(model, adapter) : new Map();
    const isSeq2seq = model.model.encoderDecoder !== undefined;
    const lastLogits = async (prompt: readonly number[], added: readonly number[]): Promise<Float32Array> => {
      const ids = Int32Array.from(isSeq2seq ? prompt : [...prompt, ...added]);
      // A decoder reads the labels that come before the last one.
      const label = isSeq2seq ? Int32Array.from([...added, 2]) : ids;
      const labels = isSeq2seq ? "target" : "token";
      const batch = makeBatch([{ ids, label }], {
        size: 1,
        length: ids.length,
        labels,
        padId: model.model.padId,
        ...(isSeq2seq && { targetLength: label.length }),
      });
      const { data } = await adapterLogits(model, adapter ?? lora({ rank: 1 }), tensors, batch);
      return isSeq2seq
        ? data.slice(added.length * model.model.vocabularySize, (added.length + 1) * model.model.vocabularySize)
        : data.slice(-model.model.vocabularySize);
    };
    // Padded to one length, and longer than every window.
    const prompts = [
      [3, 14, 15, 9, 26, 5, 35],
      [8, 9],
    ];
    const texts = await generate(model, prompts, {
      ...(adapter && { weights: { adapter, tensors } }),
      maxNewTokens: 6,
      endIds: [],
    });
    for (const [i, { ids }] of texts.entries()) {
      expect(ids).toHaveLength(6);
      for (const [position, id] of ids.entries()) {
        const logits = await lastLogits(prompts[i]!, ids.slice(0, position));
        const largest = Math.max(...logits);
        // Without a cache sums have another order, so that of two equally likely tokens either may be first.
        expect(largest - logits[id]!, `prompt ${i + 1}, token ${position + 1}`).toBeLessThan(1e-4 * Math.abs(largest));
      }
    }
  };

async function trainedTensors(model: LoadedModel, adapter: Adapter) {
  using trainer = await makeTrainer(model, { adapter, steps: 3, optimizer: { learningRate: 3e-2 } });
  await trainer.train();
  // The run ends with this function.
  const tensors = await trainer.snapshot();
  return tensors;
}

const FEATURES: Readonly<Record<string, Feature>> = {
  "recomputed layers": recomputed("layers"),
  "recomputed feed-forwards": recomputed("mlp"),
  "activations in f16": activations("f16", 5e-3),
  "activations in bf16": activations("bf16", 5e-2),
  "weights in f16": weights("f16"),
  "weights in int8": weights("int8"),
  "weights in nf4": weights("nf4"),
  "DoRA on weights in f16": weights("f16", doraEverywhere),
  "DoRA on weights in int8": weights("int8", doraEverywhere),
  "DoRA on weights in nf4": weights("nf4", doraEverywhere),
  "merging on freeze": mergingOnFreeze(everywhere),
  "merging DoRA on freeze": mergingOnFreeze(doraEverywhere),
  async "micro-batches"(family) {
    using model = await open(family);
    // Sums have another order.
    expectClose((await train(model, { memory: { microBatch: 1 } })).losses, (await train(model)).losses, 3e-4);
  },
  /** The horizon rises, and memory falls by what `explain` says beforehand. */
  async "freezing from below"(family) {
    using model = await open(family);
    using trainer = await makeTrainer(model);
    const live = trainer.state.liveByLayer();
    const layers = [...live.keys()].sort((a, b) => a - b);
    expect(layers).toHaveLength(isShared(family) ? 0 : model.model.layers);
    expect(trainer.horizon).toBe(0);
    const isLast = (names: readonly string[]): boolean => names.length === trainer.state.live.size;
    for (const [i, layer] of layers.entries()) {
      const names = live.get(layer)!;
      // A language model has no head that still learns.
      if (isLast(names)) break;
      const { keptBytes } = trainer.explain({ frozen: names });
      const saved = engine.ledger.live.saved;
      const { returned } = await trainer.freeze(names);
      expect(trainer.explain().keptBytes, "what explain has said").toBe(keptBytes);
      expect(returned.saved, `kept bytes that layer ${layer} returns`).toBeGreaterThan(0);
      expect(engine.ledger.live.saved).toBe(saved - returned.saved);
      expect(engine.ledger.live, "ledger against plan").toEqual(trainer.predictedBytes());
      const isBelow = [...trainer.state.live.values()].some((spec) => spec.layer === "below");
      expect(trainer.horizon, `after layer ${layer}`).toBe(isBelow ? 0 : layers[i + 1]);
    }
    await stepsOf(trainer);
  },
  /** With nothing live in the encoder, it keeps nothing but its output, and its output alone is read by the decoder. */
  async "a frozen encoder"(family) {
    using model = await open(family);
    const { encoderDecoder } = model.model;
    if (!encoderDecoder) return;
    using trainer = await makeTrainer(model, { dropout: false, prefixCache: true, steps: 8 });
    const encoder = [...trainer.state.specs].filter(([, { layer }]) => {
      return layer === "below" || (typeof layer === "number" && layer < encoderDecoder.encoderLayers);
    });
    await trainer.freeze(encoder.map(([name]) => name));
    const isOfDecoder = (reader: string): boolean => reader.includes("decoder.");
    const kept = trainer.explain().kept.filter(({ label }) => label.includes("encoder."));
    for (const { label, keptFor } of kept) expect(keptFor.every(isOfDecoder), label).toBe(true);
    expect(new Set(kept.map(({ label }) => label)).size, "the encoder's output alone").toBeLessThanOrEqual(1);
    const backward = trainer
      .launches()
      .filter(({ phase, label }) => phase === "backward" && label.includes("encoder."));
    expect(backward, "backward launches in the encoder").toEqual([]);
    const reports = await stepsOf(trainer);
    expect(reports.map(({ prefix }) => prefix!.layer)).toEqual(reports.map(() => encoderDecoder.encoderLayers));
    expect(reports.slice(2).every(({ prefix }) => prefix!.hits === prefix!.parts)).toBe(true);
    expect(reports.at(-1)!.flops).toBeLessThan(reports[0]!.flops);
  },
  async "a prefix cache"(family) {
    using model = await open(family);
    const options = { policy: bottomUp(), dropout: false, steps: 8 };
    const plain = await train(model, options);
    const cached = await train(model, { ...options, prefixCache: true });
    expect(cached.losses).toEqual(plain.losses);
    expect(cached.tensors).toEqual(plain.tensors);
    const layers = cached.reports.map(({ prefix }) => prefix!.layer);
    const hits = cached.reports.reduce((sum, { prefix }) => sum + prefix!.hits, 0);
    if (isShared(family)) return;
    expect(Math.max(...layers), "layers that are not computed again").toBeGreaterThan(0);
    expect(hits).toBeGreaterThan(0);
  },
  async "a memory budget"(family) {
    using model = await open(family);
    const options = { model, adapter: everywhere(), steps: 3, warn: () => undefined };
    const policy = isShared(family) ? {} : { policy: safe({ every: 1, maxWarmup: 1, targetFreezeFraction: 0.6 }) };
    await expectToKeepBudget({ ...options, ...policy });
    await expectToKeepBudget({
      ...options,
      ...policy,
      memory: { microBatch: 2, recompute: "layers", activations: "f16" },
    });
  },
  async "the micro-batch that fits"(family) {
    using model = await open(family);
    const options = { model, adapter: everywhere(), steps: 3, warn: () => undefined };
    await expectToKeepBudget({ ...options, policy: bottomUp(), memory: { microBatch: "fit" } });
  },
  async "a plan from config.json alone"(family) {
    using model = await open(family);
    const batch = tinyData(model).next();
    using trainer = await makeTrainer(model, { data: { perEpoch: 1, next: () => batch } });
    const options = { config: tiny[family](), adapter: everywhere(), batch: batch.size, length: batch.length };
    const planned = plan({ ...options, ...(batch.targetLength && { targetLength: batch.targetLength }) });
    expect(planned.bytes).toEqual(trainer.predictedBytes());
    expect(planned.explanation.kept).toEqual(trainer.explain().kept);
    const [report] = await stepsOf(trainer);
    expect(planned.bytes).toEqual(report!.bytes);
  },
  async "explanations of what is kept"(family) {
    using model = await open(family);
    using trainer = await makeTrainer(model);
    const { kept, keptBytes } = trainer.explain();
    expect(kept.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(keptBytes);
    // A buffer is a multiple of 16 bytes.
    const inBuffers = kept.reduce((sum, { bytes }) => sum + 16 * Math.ceil(bytes / 16), 0);
    expect(inBuffers, "the ledger's kept bytes").toBe(engine.ledger.live.saved);
    for (const { label, keptFor } of kept) expect(keptFor, label).not.toEqual([]);
  },
  async "checkpoints that resume"(family) {
    using model = await open(family);
    const policy = () =>
      isShared(family) ? {} : { policy: safe({ every: 1, maxWarmup: 2, targetFreezeFraction: 0.6 }) };
    const undisturbed = await train(model, policy());
    const directory = memoryDirectory("checkpoints");
    {
      using killed = await makeTrainer(model, { ...policy(), checkpoints: { directory, every: 4 } });
      // Two steps after the checkpoint are lost.
      for await (const { step } of killed.steps()) if (step === 5) break;
    }
    using resumed = await makeTrainer(model, { ...policy(), checkpoints: { resume: directory } });
    expect(resumed.progress.step).toBe(4);
    await stepsOf(resumed);
    expect([...resumed.history.losses]).toEqual(undisturbed.losses);
    const tensors = [...(await resumed.snapshot())].map(([name, { data }]) => [name, [...data]]);
    expect(Object.fromEntries(tensors)).toEqual(undisturbed.tensors);
  },
  async "a lost device"(family) {
    using model = await open(family);
    const undisturbed = await train(model);
    using trainer = await makeTrainer(model, { recover: { every: 2 } });
    for await (const { step } of trainer.steps()) if (step === 3) engine.device.handle.destroy();
    expect([...trainer.history.losses]).toEqual(undisturbed.losses);
  },
  async SAFE(family) {
    using model = await open(family);
    const policy = safe({ every: 1, maxWarmup: 2, targetFreezeFraction: 0.75, rampEnd: 4, scores: "warmup" });
    const remarks: string[] = [];
    using trainer = await makeTrainer(model, { policy, steps: 8, warn: (remark) => remarks.push(remark) });
    const scored = new Set<string>();
    const reports = await stepsOf(trainer);
    for (const { scores } of reports) {
      for (const [layer, value] of Object.entries(scores?.values ?? {})) {
        scored.add(layer);
        expect(value, `1 - CKA of layer ${layer}`).toBeGreaterThanOrEqual(-1e-5);
        expect(value, `1 - CKA of layer ${layer}`).toBeLessThanOrEqual(1);
      }
    }
    expect(scored.size).toBe(model.model.layers);
    expect(
      reports.flatMap(({ freezes }) => freezes),
      remarks.join("\n"),
    ).not.toEqual([]);
    const live = [...trainer.state.live.values()].map(({ layer }) => layer);
    const lowest = live.includes("below") ? 0 : Math.min(...live.filter((layer) => typeof layer === "number"));
    expect(trainer.horizon, "horizon: the lowest live adapter's layer").toBe(lowest);
  },
  async AFLoRA(family) {
    using model = await open(family);
    const adapter = makeAdapter({ kind: "aflora", rank: 3 });
    const policy = afloraFreezing({ initialEpochs: 0, finalShare: 0.5 });
    const { reports, losses } = await train(model, { adapter, policy, steps: 8 });
    losses.forEach((loss) => expect(loss).toBeGreaterThan(0));
    expect(reports.flatMap(({ freezes }) => freezes)).not.toEqual([]);
    expect(reports.at(-1)!.bytes.state).toBeLessThan(reports[0]!.bytes.state);
  },
  /** The model with heads and neurons cut out gives the logits of the one that multiplies them by 0. */
  async LoRAPrune(family) {
    const logits = async (compactions: number) => {
      using model = await open(family, "f32", prunable(family));
      const policy = loraPrune({ every: 1, warmupShare: 0, finalShare: 0, ratio: 0.75, compactions });
      using trainer = await makeTrainer(model, {
        policy,
        dropout: false,
        adapter: lora({ rank: 2, targets: "all-linear" }),
      });
      const reports = await stepsOf(trainer);
      const cut = reports.flatMap(({ compaction }) => compaction ?? []);
      expect(cut.length > 0, `cut ${compactions} times`).toBe(compactions > 0);
      const values: number[] = [];
      await trainer.evaluate(tinyData(model).restOfEpoch(), (_batch, all) => values.push(...all));
      return Float32Array.from(values);
    };
    expect(relativeError(await logits(1), await logits(0))).toBeLessThan(2e-5);
  },
  /** Every projection but heads and the last one of a language model. */
  async '"all-linear"'(family) {
    using model = await open(family);
    const { projections, heads, output } = model.model;
    const isHead = (name: string): boolean => heads.some((head) => `${name}.`.startsWith(`${head}.`));
    const expected = projections.filter(({ name, layer }) => !isHead(name) && (layer !== undefined || !output));
    const adapter = lora({ rank: 2, targets: "all-linear" });
    const adapted = adapter.tensors(model.model).filter(({ name }) => name.endsWith(".lora_A.weight"));
    expect(adapted.map(({ name }) => name)).toEqual(expected.map(({ name }) => `${name}.lora_A.weight`));
    // Everything that is adapted has a gradient: it is traced.
    using trainer = await makeTrainer(model, { adapter });
    const live = [...trainer.state.live.keys()].filter((name) => name.endsWith(".lora_A.weight"));
    expect(live).toHaveLength(expected.length);
  },
  generation: generation("dropped"),
  "generation with an adapter": generation("lora"),
  ...Object.fromEntries(ADAPTER_KINDS.map((kind) => [`adapter ${kind}`, adapterOf(kind)])),
};

/** Sizes with several heads, where heads are pruned, and many neurons. */
function prunable(family: FamilyName): Config {
  const config: Config = tiny[family]();
  if ("n_head" in config) return { n_head: 4, n_inner: 192 };
  if ("n_heads" in config) return { n_heads: 4, hidden_dim: 192 };
  if ("num_attention_heads" in config)
    return { num_attention_heads: 4, num_key_value_heads: 2, intermediate_size: 192 };
  if (family === "t5") return { d_ff: 192 };
  if (family === "bart") return { encoder_ffn_dim: 192, decoder_ffn_dim: 192 };
  // Swin's first stage is 8 wide.
  return { mlp_ratio: 24 };
}

/** Adapters without which a family is trained, and what it says to them. */
const REFUSED: Readonly<Record<string, Readonly<Record<string, RegExp>>>> = {
  SAFE: { albert: /nothing to freeze/ },
  LoRAPrune: { albert: /does not prune the outer layers/ },
};

/** What a feature says to a family for which it makes no sense. */
function refusal(feature: string, family: FamilyName): RegExp | undefined {
  const model = createModel(tiny[family]());
  if (["adapter prompt", "adapter p_tuning", "adapter prefix_tuning"].includes(feature) && model.image) {
    return /reads images/;
  }
  if (feature === "adapter prefix_tuning" && model.prefixHeads === undefined) {
    return model.encoderDecoder ? /encoder-decoder/ : /takes no keys and values/;
  }
  const isRow = !isShared(family) && !model.encoderDecoder && !family.startsWith("swin");
  if (feature === "adapter meft" && !isRow) return /not attention followed by a feed-forward/;
  const isLanguageModel = ["causal_lm", "seq2seq"].includes(model.task);
  if (feature.startsWith("generation") && !isLanguageModel) return /head for/;
  return REFUSED[feature]?.[family];
}

/** Pairs that differ most from what the other tests of runs have. */
const SAMPLE: readonly (readonly [string, FamilyName])[] = [
  ["micro-batches", "deberta-v2"],
  ["merging DoRA on freeze", "gpt2"],
  ["a frozen encoder", "t5"],
  ["adapter p_tuning", "t5"],
  ["adapter prompt", "bart"],
];
const PAIRS = TRIES_ALL_FAMILIES
  ? Object.keys(FEATURES).flatMap((feature) => FAMILY_NAMES.map((family) => [feature, family] as const))
  : SAMPLE;

/**
 * Pairs that share an engine, and with it compiled kernels. llvmpipe maps memory for each until its device is closed, and Linux grants a
 * process 65,530 regions: after some 550 pairs it ended without a word.
 */
const PAIRS_OF_AN_ENGINE = 250;
const suites = Array.from({ length: Math.ceil(PAIRS.length / PAIRS_OF_AN_ENGINE) }, (_, i) =>
  PAIRS.slice(i * PAIRS_OF_AN_ENGINE, (i + 1) * PAIRS_OF_AN_ENGINE),
);

describe.each(suites.map((pairs) => ({ pairs })))("what holds for one family holds for all", ({ pairs }) => {
  const opened = useEngineOfSuite({ reopen: () => testDevice() });
  beforeAll(() => void (engine = opened()));
  it.each(pairs)("%s: %s", async (feature, family) => {
    const reason = refusal(feature, family);
    if (!reason) return FEATURES[feature]!(family);
    expect((await failure(FEATURES[feature]!(family), ConfigError)).message).toMatch(reason);
  });
});
