import { describe, expect, it } from "vitest";
import {
  initialiseModel,
  loadAdapter,
  loadModel,
  lora,
  loraPrune,
  never,
  saveAdapter,
  saveMerged,
  saveModel,
  sora,
  Trainer,
} from "safetape";
import { Batches, memoryDirectory } from "safetape/data";
import { sumBytes } from "safetape/engine";
import type { CompactionEvent, LoadedModel, StepReport, TrainerOptions } from "safetape";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { tiny, tinySamples } from "../support/tiny";

/** Four heads of four numbers, in LLaMA two groups of two, and 192 neurons. */
const HEADS = { num_attention_heads: 4, intermediate_size: 192, initializer_range: 0.2 };
const CONFIGS = {
  bert: tiny.bert(HEADS),
  gpt2: tiny.gpt2({
    n_head: 4,
    n_inner: 192,
    initializer_range: 0.2,
    num_labels: 2,
    architectures: ["GPT2ForSequenceClassification"],
  }),
  llama: tiny.llama({ ...HEADS, num_key_value_heads: 2, architectures: ["LlamaForSequenceClassification"] }),
};
/** Groups of heads in one of the two pruned layers, and those that are out in the end: 0.75 of them, rounded down. */
const GROUPS = { bert: [4, 2], gpt2: [4, 2], llama: [2, 1] } as const;
const SAMPLES = tinySamples(16);
const ADAPTER = { rank: 2, alpha: 4, targets: "all-linear", bias: "lora_only" } as const;
const STEPS = 5;
/** Groups are removed after every step but the last one. */
const LAST_REMOVAL = 4;

const engine = await useEngine();

function trainerOptions(model: LoadedModel, changes: Partial<TrainerOptions> = {}): TrainerOptions {
  const data = new Batches(SAMPLES, { size: 4, seed: 3, maxLength: 16, multiple: 16 });
  const adapter = lora(ADAPTER);
  const policy = loraPrune({ every: 1, ratio: 0.75 });
  const optimizer = { learningRate: 1e-2 };
  return { model, adapter, policy, data, steps: STEPS, dropout: false, optimizer, seed: 5, ...changes };
}

const pruning = (compactions: number) => loraPrune({ every: 1, ratio: 0.75, compactions });

async function logitsOf(trainer: Trainer): Promise<number[]> {
  const logits: number[] = [];
  const batches = new Batches(SAMPLES, { size: 4, shuffle: false }).restOfEpoch();
  await trainer.evaluate(batches, (_batch, values) => logits.push(...values));
  return logits;
}

function expectClose(actual: readonly number[], expected: readonly number[]): void {
  expect(actual).toHaveLength(expected.length);
  const difference = Math.max(...actual.map((value, i) => Math.abs(value - expected[i]!)));
  expect(difference).toBeLessThan(1e-5);
}

async function untilStep(trainer: Trainer, last: number): Promise<StepReport[]> {
  const reports: StepReport[] = [];
  for await (const report of trainer.steps()) {
    expect(report.bytes, `ledger against plan after step ${report.step}`).toEqual(report.planned);
    reports.push(report);
    if (report.step === last) break;
  }
  return reports;
}

const compactionsOf = (reports: readonly StepReport[]): CompactionEvent[] =>
  reports.flatMap(({ compaction }) => compaction ?? []);

describe.each([
  ["bert", {}],
  ["gpt2", {}],
  ["llama", {}],
  // LLaMA's projections have no bias: each of them gets one that learns.
  ["llama", { addBiases: true }],
] as const)("LoRAPrune on %s %o", (family, adapterOptions) => {
  const adapter = lora({ ...ADAPTER, ...adapterOptions });

  it("cuts heads and neurons out, with the logits of the model that only masks them, and gives their memory back", async () => {
    const [groups, out] = GROUPS[family];
    let expected: number[];
    let maskedBytes: number;
    {
      using model = await initialiseModel(engine, CONFIGS[family]);
      using trainer = await Trainer.create(trainerOptions(model, { adapter, policy: pruning(0) }));
      expect(compactionsOf(await untilStep(trainer, LAST_REMOVAL))).toEqual([]);
      expected = await logitsOf(trainer);
      maskedBytes = engine.ledger.liveBytes;
    }
    using model = await initialiseModel(engine, CONFIGS[family]);
    const loaded = new Map<string, Float32Array>();
    for (const [name, tensor] of model.weights) loaded.set(name, await tensor.read());
    {
      using trainer = await Trainer.create(trainerOptions(model, { adapter, policy: pruning(1) }));
      const [event] = compactionsOf(await untilStep(trainer, LAST_REMOVAL));
      // 0.75 (1 - 0.125^3) of 192 neurons are out in each of two layers; 64 at a time are cut.
      expect(event).toMatchObject({ step: LAST_REMOVAL, heads: 2 * out, neurons: 2 * 128 });
      expect(event!.returnedBytes).toBe(maskedBytes - engine.ledger.liveBytes);
      const { returned } = event!;
      for (const bytes of [returned.weight, returned.state, returned.saved]) expect(bytes).toBeGreaterThan(0);
      expectClose(await logitsOf(trainer), expected);
      const heads = model.model.structures(1)[0]!;
      expect(heads.groups).toBe(groups - out);
      expect(model.model.structures(2)[0]!.groups, "the last layer").toBe(groups);

      await untilStep(trainer, STEPS);
      const logits = await logitsOf(trainer);
      await expectFiles(trainer, CONFIGS[family], logits);
      expect((await failure(saveModel(memoryDirectory("model"), model))).message).toMatch(/saveMerged/);
      expect((await failure(Trainer.create(trainerOptions(model)))).message).toMatch(/run that is not over/);
    }
    // The run has put back what it had cut.
    for (const [name, tensor] of model.weights) expect(await tensor.read(), name).toEqual(loaded.get(name));
    expect(sumBytes(engine.ledger.live)).toBe([...model.weights.values()].reduce((sum, { bytes }) => sum + bytes, 0));
  });
});

/** The merged model, and the adapter on the complete model, have the run's logits. */
async function expectFiles(trainer: Trainer, config: Readonly<Record<string, unknown>>, logits: number[]) {
  const merged = memoryDirectory("merged");
  await saveMerged(merged, trainer);
  const folder = memoryDirectory("adapter");
  await saveAdapter(folder, trainer);
  using pruned = await loadModel(engine, merged);
  using plain = await Trainer.create(trainerOptions(pruned, { policy: never() }));
  expectClose(await logitsOf(plain), logits);
  using complete = await initialiseModel(engine, config);
  const { adapter, tensors } = await loadAdapter(folder, complete);
  using masked = await Trainer.create(trainerOptions(complete, { adapter, initial: tensors, policy: never() }));
  expectClose(await logitsOf(masked), logits);
}

it("LoRAPrune returns the bytes of the heads and neurons that it cuts", async () => {
  using model = await initialiseModel(engine, CONFIGS.bert);
  using trainer = await Trainer.create(trainerOptions(model, { adapter: lora({ rank: 2, targets: "all-linear" }) }));
  const events = compactionsOf(await untilStep(trainer, STEPS));
  expect(events.length).toBeGreaterThan(1);
  expect(events.at(-1)).toMatchObject({ heads: 4, neurons: 256 });
  const sum = (pick: (event: CompactionEvent) => number) => events.reduce((total, event) => total + pick(event), 0);
  // Per layer: 8 of 16 rows and biases of q, k, v and columns of the dense after it; 128 neurons in and out.
  const perLayer = 3 * (8 * 16 + 8) + 16 * 8 + (128 * 16 + 128) + 16 * 128;
  expect(sum(({ returned }) => returned.weight)).toBe(2 * perLayer * 4);
  // LoRA of rank 2 with gradients and two moments, and a mask for every output.
  const loraNumbers = 3 * 8 * 2 + 2 * 8 + 128 * 2 + 2 * 128;
  expect(sum(({ returned }) => returned.state)).toBe(2 * (4 * loraNumbers + 3 * 8 + 128) * 4);
  // Complete originals of q, k, v and their biases, the dense after them, and both of the feed-forward.
  const originals = 3 * (16 * 16 + 16) + 16 * 16 + (192 * 16 + 192) + 16 * 192;
  expect(events.at(-1)!.hostBytes).toBe(2 * originals * 4);
  expect(trainer.compaction?.bytes).toBe(2 * originals * 4);
});

it("LoRAPrune generates with caches as wide as each layer's heads", async () => {
  const config = tiny.llama({ ...HEADS, num_key_value_heads: 2 });
  const samples = tinySamples(16, { areTokens: true });
  const prompts = samples.slice(0, 3).map(({ ids }) => ids.slice(0, 5));
  const texts = [];
  for (const compactions of [0, 1]) {
    using model = await initialiseModel(engine, config);
    const data = new Batches(samples, { size: 4, seed: 3, maxLength: 16, multiple: 16, labels: "token" });
    using trainer = await Trainer.create(trainerOptions(model, { data, policy: pruning(compactions) }));
    await untilStep(trainer, LAST_REMOVAL);
    texts.push(await trainer.generate(prompts, { maxNewTokens: 4 }));
  }
  expect(texts[1]!.map(({ ids }) => ids)).toEqual(texts[0]!.map(({ ids }) => ids));
});

it("LoRAPrune refuses an adapter other than LoRA", async () => {
  using model = await initialiseModel(engine, CONFIGS.bert);
  const error = await failure(Trainer.create(trainerOptions(model, { adapter: sora() })));
  expect(error.message).toMatch(/needs the gradients of LoRA/);
});
