import { describe, expect, it } from "vitest";
import {
  Batches,
  blockSamples,
  createModel,
  DataError,
  fixed,
  initialiseModel,
  LIFETIMES,
  loadAdapter,
  lora,
  memoryDirectory,
  MemoryBudgetError,
  never,
  NotFiniteError,
  safe,
  saveAdapter,
  saveModel,
  sumBytes,
  Trainer,
  loadModel,
} from "safetape";
import type { FreezePolicy, LoadedModel, Sample, TrainerOptions } from "safetape";
import { Random } from "../../src/base/random";
import { useEngine } from "../support/engine";

const BERT = {
  model_type: "bert",
  vocab_size: 50,
  hidden_size: 32,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  intermediate_size: 64,
  max_position_embeddings: 32,
  num_labels: 2,
};
const GPT2 = { model_type: "gpt2", vocab_size: 50, n_positions: 32, n_embd: 32, n_layer: 3, n_head: 4 };

const engine = await useEngine();

function classified(count: number, seed = 1): Sample[] {
  const random = new Random(seed);
  return Array.from({ length: count }, () => {
    const ids = Int32Array.from({ length: 5 + random.below(12) }, () => 2 + random.below(48));
    return { ids, label: ids[1]! % 2 };
  });
}

function options(model: LoadedModel, more: Partial<TrainerOptions> = {}): TrainerOptions {
  const data = new Batches(classified(24), { size: 4, seed: 3 });
  return { model, adapter: lora({ rank: 4, alpha: 8, dropout: 0.1 }), data, steps: 8, seed: 5, ...more };
}

const layersOf = (...layers: number[]): string[] => layers.map((layer) => `layer.${layer}.`);

it("leaves a tensor that no op reads as it is, without gradient, moments or decay", async () => {
  using model = await initialiseModel(engine, BERT);
  const own = lora({ rank: 4 });
  const unread = { name: "layer.0.unread", shape: [3], layer: 0, initial: () => Float32Array.of(1, 2, 3) };
  const adapter = { ...own, tensors: (of: Parameters<typeof own.tensors>[0]) => [...own.tensors(of), unread] };
  const optimizer = { learningRate: 1e-2, weightDecay: 0.1 };
  using trainer = await Trainer.create(options(model, { adapter, optimizer, steps: 2 }));
  await trainer.train();
  expect((await trainer.state.snapshot()).get(unread.name)?.data).toEqual(unread.initial());
  expect(trainer.state.frozen).toEqual([]);
  expect(engine.ledger.live).toEqual(trainer.predictedBytes());
});

describe("memory", () => {
  it("measures what the plan predicts, before and after each freeze", async () => {
    using model = await initialiseModel(engine, BERT);
    const freezes = [
      { beforeStep: 2, tensors: layersOf(0) },
      { beforeStep: 4, tensors: ["layer.2.attention.self.query.lora_A"] },
      { beforeStep: 6, tensors: layersOf(1, 2) },
    ];
    using trainer = await Trainer.create(options(model, { policy: fixed(freezes) }));
    expect(engine.ledger.live).toEqual(trainer.predictedBytes());
    const saved: number[] = [];
    let before = engine.ledger.live;
    for await (const { bytes, planned, freezes, flops } of trainer.steps()) {
      expect(bytes, "ledger against plan").toEqual(trainer.predictedBytes());
      expect(planned).toEqual(bytes);
      saved.push(bytes.saved);
      for (const freeze of freezes) {
        for (const lifetime of LIFETIMES) {
          expect(freeze.returned[lifetime], lifetime).toBe(before[lifetime] - bytes[lifetime]);
        }
        expect(sumBytes(freeze.returned)).toBe(freeze.returnedBytes);
        expect(freeze.flops.before, "as the step just done").toBe(flops);
        expect(freeze.flops.after).toBeLessThan(flops);
      }
      before = bytes;
    }
    expect(saved.at(-1), "saved bytes at the end").toBeLessThan(0.5 * saved[0]!);
    expect(sumBytes(engine.ledger.peak), "peak").toBe(engine.ledger.peakBytes);
  });

  it("keeps nothing below the horizon, and says for which gradient it keeps the rest", async () => {
    using model = await initialiseModel(engine, BERT);
    using trainer = await Trainer.create(options(model));
    const all = trainer.explain();
    const upper = trainer.explain({ frozen: layersOf(0, 1) });
    expect(upper.keptBytes).toBeLessThan(0.6 * all.keptBytes);
    expect(
      upper.kept.some(({ label }) => /layer\.0\./.test(label)),
      "kept below the horizon",
    ).toBe(false);
    expect(all.toString()).toContain("lora_A");
  });

  it("refuses a budget below the plan before it allocates anything", async () => {
    using model = await initialiseModel(engine, BERT);
    const before = engine.ledger.liveBytes;
    await expect(Trainer.create(options(model, { memoryBudget: 1000 }))).rejects.toThrow(MemoryBudgetError);
    expect(engine.ledger.liveBytes).toBe(before);
    expect(engine.ledger.peakBytes, "nothing was allocated on the way").toBe(before);
  });
});

describe("freezing", () => {
  it("leaves losses as they are in a run that keeps everything", async () => {
    using model = await initialiseModel(engine, BERT);
    const policy = fixed([{ beforeStep: 3, tensors: layersOf(0, 1) }]);
    using frozen = await Trainer.create(options(model, { policy }));
    const { losses } = await frozen.train();
    // The same run without the smaller plan: everything is kept, and the frozen tensors are put back after each step.
    using kept = await Trainer.create(options(model));
    const pinned = new Map<string, { data: Float32Array }>();
    const keptLosses: number[] = [];
    for await (const { step, loss } of kept.steps()) {
      keptLosses.push(loss);
      const snapshot = await kept.state.snapshot();
      if (step === 3) {
        for (const [name, tensor] of snapshot) if (/layer\.[01]\./.test(name)) pinned.set(name, tensor);
      }
      if (step > 3) kept.state.restore(pinned);
    }
    expect(Array.from(losses)).toEqual(keptLosses);
  });

  it("freezes by SAFE and writes its choices into the record", async () => {
    using model = await initialiseModel(engine, BERT);
    const policy = safe({ every: 2, maxWarmup: 2, targetFreezeFraction: 0.75, rampEnd: 4 });
    using trainer = await Trainer.create(options(model, { steps: 12, policy, optimizer: { learningRate: 1e-2 } }));
    const scored: string[] = [];
    const result = await trainer.train(({ step, scores }) => {
      if (scores) scored.push(`${step} ${scores.kind} ${Object.keys(scores.values).join()}`);
    });
    expect(scored, "scores in reports").toEqual([2, 4, 6, 8, 10, 12].map((step) => `${step} importance 0,1,2,3`));
    expect(result.freezes.length, "freeze events").toBeGreaterThan(0);
    expect(result.savedBytesLast).toBeLessThan(result.savedBytesFirst);
    expect(result.policy).toMatchObject({ name: "safe", center: true, warmupEnd: 2 });
    expect(Object.keys(result.policy)).toEqual(
      expect.arrayContaining(["tauT", "history", "rampEnd", "scores", "floor"]),
    );
  });

  it("asks a policy of a user's own", async () => {
    const topDown: FreezePolicy = {
      kind: "freezing",
      name: "one layer every two steps",
      start: () => ({
        isDue: ({ step }) => step > 0 && step % 2 === 0,
        decide({ live, effect }) {
          const [lowest] = [...live.keys()].sort((a, b) => a - b);
          const names = lowest === undefined ? [] : [...(live.get(lowest) ?? [])];
          expect(effect(names).savedBytes, "what the freeze gives back").toBeGreaterThan(0);
          return Promise.resolve(live.size > 1 ? names : []);
        },
      }),
    };
    using model = await initialiseModel(engine, BERT);
    using trainer = await Trainer.create(options(model, { policy: topDown }));
    const { freezes } = await trainer.train();
    expect(freezes.map(({ layers }) => layers)).toEqual([[0], [1], [2]]);
  });
});

describe("training", () => {
  it("gives the same bits twice", async () => {
    using model = await initialiseModel(engine, BERT);
    const losses: (readonly number[])[] = [];
    for (let round = 0; round < 2; round++) {
      using trainer = await Trainer.create(options(model));
      losses.push((await trainer.train()).losses);
    }
    expect(losses[0]).toEqual(losses[1]);
  });

  it("accumulates micro-batches to the loss and update of one batch", async () => {
    using model = await initialiseModel(engine, { ...BERT, hidden_dropout_prob: 0, attention_probs_dropout_prob: 0 });
    const adapter = lora({ rank: 2 });
    const samples = classified(16);
    const run = async (size: number, accumulate: number): Promise<readonly number[]> => {
      const data = new Batches(samples, { size, shuffle: false });
      using trainer = await Trainer.create({ model, adapter, data, steps: 4, accumulate });
      return (await trainer.train()).losses;
    };
    const [whole, split] = [await run(8, 1), await run(2, 4)];
    whole.forEach((loss, i) => expect(split[i]).toBeCloseTo(loss, 5));
  });

  it("learns a value: a regression's loss falls, and its predictions are values", async () => {
    using model = await initialiseModel(engine, { ...BERT, num_labels: 1 });
    const samples = classified(16).map(({ ids, label }) => ({ ids, label: (label as number) * 2.5 }));
    const batches = (): Batches => new Batches(samples, { size: 4, labels: "value", shuffle: false });
    const optimizer = { learningRate: 2e-2 };
    using trainer = await Trainer.create(options(model, { data: batches(), steps: 40, optimizer }));
    const before = await trainer.evaluate(batches().restOfEpoch());
    await trainer.train();
    const after = await trainer.evaluate(batches().restOfEpoch());
    const squares = after.predictions.map((prediction, i) => (prediction - after.labels[i]!) ** 2);
    expect(after.loss, "mean squared error").toBeLessThan(0.5 * before.loss);
    expect(squares.reduce((sum, square) => sum + square, 0) / squares.length).toBeCloseTo(after.loss, 4);
  });

  it("stops at a loss that is not finite, and keeps the last good adapter", async () => {
    using model = await initialiseModel(engine, BERT);
    using trainer = await Trainer.create(options(model));
    const steps = trainer.steps();
    await steps.next();
    const good = await trainer.state.snapshot();
    const weight = model.weights.get("bert.encoder.layer.3.output.dense.weight");
    weight?.write(new Float32Array(32 * 64).fill(NaN));
    await expect(steps.next()).rejects.toThrow(NotFiniteError);
    expect(await trainer.state.snapshot()).toEqual(good);
  });

  it("saves a PEFT adapter that loads to the same loss", async () => {
    using model = await initialiseModel(engine, GPT2);
    const random = new Random(2);
    const blocks = Array.from({ length: 8 }, () => Int32Array.from({ length: 16 }, () => random.below(50)));
    const data = (): Batches => new Batches(blockSamples(blocks), { size: 4, labels: "token" });
    const held = new Batches(blockSamples(blocks), { size: 4, labels: "token", shuffle: false });
    using trainer = await Trainer.create({ model, adapter: lora({ rank: 2 }), data: data(), steps: 4 });
    await trainer.train();
    const directory = memoryDirectory("saved");
    await saveAdapter(directory, trainer);
    const { adapter, tensors } = await loadAdapter(directory, model);
    using again = await Trainer.create({ model, adapter, data: data(), steps: 1, initial: tensors });
    const evaluated = await trainer.evaluate(held.restOfEpoch());
    const held2 = new Batches(blockSamples(blocks), { size: 4, labels: "token", shuffle: false });
    expect(await again.evaluate(held2.restOfEpoch())).toEqual(evaluated);
  });

  it("reads what it wrote: a model directory to the same loss", async () => {
    using model = await initialiseModel(engine, BERT);
    const directory = memoryDirectory("model");
    await saveModel(directory, model);
    using copy = await loadModel(engine, directory);
    const run = async (of: LoadedModel): Promise<readonly number[]> => {
      using trainer = await Trainer.create(options(of, { steps: 2, policy: never() }));
      return (await trainer.train()).losses;
    };
    expect(await run(copy)).toEqual(await run(model));
  });
});

describe("bad input", () => {
  it("names the modules that exist when none matches", async () => {
    using model = await initialiseModel(engine, BERT);
    await expect(Trainer.create(options(model, { adapter: lora({ targets: ["nowhere"] }) }))).rejects.toThrow(
      /No module .* matches[\s\S]*self\.query/,
    );
  });

  it("names an unknown model type and activation", () => {
    expect(() => createModel({ model_type: "mamba" })).toThrow(/model_type "mamba" is unknown[\s\S]*bert/);
    expect(() => createModel({ ...BERT, hidden_act: "swish2" })).toThrow(/swish2[\s\S]*gelu/);
  });

  it("refuses samples that are longer than the rows", () => {
    expect(() => new Batches(classified(4), { size: 2, maxLength: 3 })).toThrow(DataError);
  });

  it("refuses a checkpoint with a missing tensor, and leaves no memory behind", async () => {
    using model = await initialiseModel(engine, BERT);
    const directory = memoryDirectory("model");
    await saveModel(directory, model);
    const config = JSON.parse(new TextDecoder().decode(await directory.read("config.json"))) as object;
    await directory.write("config.json", new TextEncoder().encode(JSON.stringify({ ...config, num_hidden_layers: 5 })));
    const before = engine.ledger.liveBytes;
    await expect(loadModel(engine, directory)).rejects.toThrow(/has no tensor bert\.encoder\.layer\.4/);
    expect(engine.ledger.liveBytes).toBe(before);
  });
});
