import { describe, expect, it } from "vitest";
import {
  createModel,
  fixed,
  initialiseModel,
  loadAdapter,
  loadModel,
  lora,
  never,
  safe,
  saveAdapter,
  saveModel,
  Trainer,
} from "safetape";
import { DataError, LIFETIMES, MemoryBudgetError, NotFiniteError, sumBytes } from "safetape/engine";
import { Batches, blockSamples, memoryDirectory } from "safetape/data";
import type { Adapter, FreezePolicy, LoadedModel, TrainerOptions } from "safetape";
import { Random } from "../../src/base/random";
import { jsonBytes } from "../../src/io/json";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { parseJson } from "../support/json";
import { tiny, tinySamples } from "../support/tiny";
import type { Config } from "../support/tiny";

const SIZES = { hidden_size: 32, num_hidden_layers: 4, num_attention_heads: 4, intermediate_size: 64 };
const BERT = tiny.bert(SIZES);
const NO_DROPOUT = { hidden_dropout_prob: 0, attention_probs_dropout_prob: 0 };

const engine = await useEngine();

const samples = (count: number) => tinySamples(count, { longest: 16 });

function trainerOptions(model: LoadedModel, changes: Partial<TrainerOptions> = {}): TrainerOptions {
  const data = new Batches(samples(24), { size: 4, seed: 3 });
  return { model, adapter: lora({ rank: 4, alpha: 8, dropout: 0.1 }), data, steps: 8, seed: 5, ...changes };
}

const layersOf = (...layers: number[]): string[] => layers.map((layer) => `layer.${layer}.`);

it("a tensor that no op reads keeps its values, and has no gradient, moments or decay", async () => {
  using model = await initialiseModel(engine, BERT);
  const plain = lora({ rank: 4 });
  const unread = { name: "layer.0.unread", shape: [3], layer: 0, initial: () => Float32Array.of(1, 2, 3) };
  const adapter: Adapter = { ...plain, tensors: (target) => [...plain.tensors(target), unread] };
  const optimizer = { learningRate: 1e-2, weightDecay: 0.1 };
  using trainer = await Trainer.create(trainerOptions(model, { adapter, optimizer, steps: 2 }));
  await trainer.train();
  expect((await trainer.state.snapshot()).get(unread.name)?.data).toEqual(unread.initial());
  expect(trainer.state.frozen).toEqual([]);
  expect(engine.ledger.live).toEqual(trainer.predictedBytes());
});

describe("memory", () => {
  it("is what the plan predicts, before and after each freeze", async () => {
    using model = await initialiseModel(engine, BERT);
    const freezes = [
      { beforeStep: 2, tensors: layersOf(0) },
      { beforeStep: 4, tensors: ["layer.2.attention.self.query.lora_A"] },
      { beforeStep: 6, tensors: layersOf(1, 2) },
    ];
    using trainer = await Trainer.create(trainerOptions(model, { policy: fixed(freezes) }));
    expect(engine.ledger.live).toEqual(trainer.predictedBytes());
    const savedBytes: number[] = [];
    let before = engine.ledger.live;
    for await (const { bytes, planned, freezes, flops } of trainer.steps()) {
      expect(bytes, "ledger against plan").toEqual(trainer.predictedBytes());
      expect(planned).toEqual(bytes);
      savedBytes.push(bytes.saved);
      for (const freeze of freezes) {
        for (const lifetime of LIFETIMES) {
          expect(freeze.returned[lifetime], lifetime).toBe(before[lifetime] - bytes[lifetime]);
        }
        expect(sumBytes(freeze.returned)).toBe(freeze.returnedBytes);
        expect(freeze.flops.before, "FLOPs of the step before the freeze").toBe(flops);
        expect(freeze.flops.after).toBeLessThan(flops);
      }
      before = bytes;
    }
    expect(savedBytes.at(-1), "saved bytes at the end").toBeLessThan(0.5 * savedBytes[0]!);
    expect(sumBytes(engine.ledger.peak), "peak").toBe(engine.ledger.peakBytes);
  });

  it("of a tensor that freezes alone in its layer is returned, and its neighbours keep every bit", async () => {
    using model = await initialiseModel(engine, BERT);
    using trainer = await Trainer.create(trainerOptions(model, { steps: 2 }));
    await trainer.train();
    const { state } = trainer;
    const [frozen = "", ...others] = [...state.live.keys()].filter((name) => name.includes("layer.1."));
    const companions = state.companions(frozen);
    const keys = [frozen, ...others.flatMap((name) => [name, ...state.companions(name).map(({ key }) => key)])];
    const read = async (): Promise<Float32Array[]> => Promise.all(keys.map((key) => state.read(key)));
    const [values, { bytes }, before] = [await read(), state.tensor(frozen), engine.ledger.live];
    const { returned } = await trainer.freeze([frozen]);
    expect(companions).toHaveLength(3);
    expect(returned.state).toBe(companions.length * bytes);
    expect(engine.ledger.live.state).toBe(before.state - returned.state);
    expect(engine.ledger.live).toEqual(trainer.predictedBytes());
    expect(await read()).toEqual(values);
  });

  it("holds nothing below the horizon, and `explain` names the gradients that need what is kept", async () => {
    using model = await initialiseModel(engine, BERT);
    using trainer = await Trainer.create(trainerOptions(model));
    const whole = trainer.explain();
    const upper = trainer.explain({ frozen: layersOf(0, 1) });
    expect(upper.keptBytes).toBeLessThan(0.6 * whole.keptBytes);
    expect(
      upper.kept.some(({ label }) => /layer\.0\./.test(label)),
      "kept below the horizon",
    ).toBe(false);
    expect(whole.toString()).toContain("lora_A");
  });

  it("is not allocated for a plan above the budget", async () => {
    using model = await initialiseModel(engine, BERT);
    const before = engine.ledger.liveBytes;
    await failure(Trainer.create(trainerOptions(model, { memory: { budget: 1000 } })), MemoryBudgetError);
    expect(engine.ledger.liveBytes).toBe(before);
    expect(engine.ledger.peakBytes, "peak during the refusal").toBe(before);
  });
});

describe("freezing", () => {
  it("gives the losses of a run that keeps everything", async () => {
    using model = await initialiseModel(engine, BERT);
    const policy = fixed([{ beforeStep: 3, tensors: layersOf(0, 1) }]);
    using frozen = await Trainer.create(trainerOptions(model, { policy }));
    const { losses } = await frozen.train();
    // The same run with the larger plan: the tensors that should be frozen are restored after each step.
    using unfrozen = await Trainer.create(trainerOptions(model));
    const pinned = new Map<string, { data: Float32Array }>();
    const expected: number[] = [];
    for await (const { step, loss } of unfrozen.steps()) {
      expected.push(loss);
      const snapshot = await unfrozen.state.snapshot();
      if (step === 3) {
        for (const [name, tensor] of snapshot) if (/layer\.[01]\./.test(name)) pinned.set(name, tensor);
      }
      if (step > 3) unfrozen.state.restore(pinned);
    }
    expect([...losses]).toEqual(expected);
  });

  it("by SAFE is recorded with its settings", async () => {
    using model = await initialiseModel(engine, BERT);
    const policy = safe({ every: 2, maxWarmup: 2, targetFreezeFraction: 0.75, rampEnd: 4 });
    using trainer = await Trainer.create(
      trainerOptions(model, { steps: 12, policy, optimizer: { learningRate: 1e-2 } }),
    );
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

  it("follows a policy that a user wrote", async () => {
    const topDown: FreezePolicy = {
      kind: "freezing",
      name: "one layer every two steps",
      start: () => ({
        isDue: ({ step }) => step > 0 && step % 2 === 0,
        decide({ live, effect }) {
          const [lowest] = [...live.keys()].sort((a, b) => a - b);
          const names = lowest === undefined ? [] : [...(live.get(lowest) ?? [])];
          expect(effect(names).savedBytes, "bytes that the freeze would return").toBeGreaterThan(0);
          return Promise.resolve(live.size > 1 ? names : []);
        },
      }),
    };
    using model = await initialiseModel(engine, BERT);
    using trainer = await Trainer.create(trainerOptions(model, { policy: topDown }));
    const { freezes } = await trainer.train();
    expect(freezes.map(({ layers }) => layers)).toEqual([[0], [1], [2]]);
  });
});

describe("training", () => {
  it("gives the same bits twice", async () => {
    using model = await initialiseModel(engine, BERT);
    const losses: (readonly number[])[] = [];
    for (let round = 0; round < 2; round++) {
      using trainer = await Trainer.create(trainerOptions(model));
      losses.push((await trainer.train()).losses);
    }
    expect(losses[0]).toEqual(losses[1]);
  });

  it.each([
    ["", 16],
    [", and an epoch's last step has what is left", 10],
  ])("gives the losses and updates of one large batch when small ones are accumulated%s", async (_, count) => {
    using model = await initialiseModel(engine, tiny.bert({ ...SIZES, ...NO_DROPOUT }));
    const adapter = lora({ rank: 2 });
    const train = async (size: number, accumulate: number): Promise<readonly number[]> => {
      const data = new Batches(samples(count), { size, shuffle: false });
      using trainer = await Trainer.create({ model, adapter, data, epochs: 2, accumulate });
      return (await trainer.train()).losses;
    };
    const [whole, split] = [await train(8, 1), await train(2, 4)];
    expect(whole).toHaveLength(4);
    whole.forEach((loss, i) => expect(split[i]).toBeCloseTo(loss, 5));
  });

  it("of a regression lowers the loss and predicts values", async () => {
    using model = await initialiseModel(engine, tiny.bert({ ...SIZES, num_labels: 1 }));
    const valued = samples(16).map(({ ids }) => ({ ids, label: (ids[0]! % 2) * 2.5 }));
    const batches = (): Batches => new Batches(valued, { size: 4, labels: "value", shuffle: false });
    const optimizer = { learningRate: 2e-2 };
    using trainer = await Trainer.create(trainerOptions(model, { data: batches(), steps: 40, optimizer }));
    const before = await trainer.evaluate(batches().restOfEpoch());
    await trainer.train();
    const after = await trainer.evaluate(batches().restOfEpoch());
    const squares = after.predictions.map((prediction, i) => (prediction - after.labels[i]!) ** 2);
    expect(after.loss, "mean squared error").toBeLessThan(0.5 * before.loss);
    expect(squares.reduce((sum, square) => sum + square, 0) / squares.length).toBeCloseTo(after.loss, 4);
  });

  it("stops at a loss that is not finite, with the adapter of the step before", async () => {
    using model = await initialiseModel(engine, BERT);
    using trainer = await Trainer.create(trainerOptions(model));
    const steps = trainer.steps();
    await steps.next();
    const good = await trainer.state.snapshot();
    const weight = model.weights.get("bert.encoder.layer.3.output.dense.weight");
    weight?.write(new Float32Array(32 * 64).fill(NaN));
    await failure(steps.next(), NotFiniteError);
    expect(await trainer.state.snapshot()).toEqual(good);
  });

  it("ends with an adapter that evaluates the same after it is saved and loaded", async () => {
    using model = await initialiseModel(engine, tiny.gpt2());
    const random = new Random(2);
    const blocks = Array.from({ length: 8 }, () => Int32Array.from({ length: 16 }, () => random.below(50)));
    const batches = (): Batches => new Batches(blockSamples(blocks), { size: 4, labels: "token", shuffle: false });
    using trainer = await Trainer.create({ model, adapter: lora({ rank: 2 }), data: batches(), steps: 4 });
    await trainer.train();
    const directory = memoryDirectory("saved");
    await saveAdapter(directory, trainer);
    const { adapter, tensors } = await loadAdapter(directory, model);
    using loaded = await Trainer.create({ model, adapter, data: batches(), steps: 1, initial: tensors });
    const expected = await trainer.evaluate(batches().restOfEpoch());
    expect(await loaded.evaluate(batches().restOfEpoch())).toEqual(expected);
  });

  it("says on loading if the adapter was trained on another model, and nothing on its own", async () => {
    const saved = async (seed: number) => {
      using model = await initialiseModel(engine, BERT, { seed });
      const directory = memoryDirectory(`model ${seed}`);
      await saveModel(directory, model);
      return await loadModel(engine, directory);
    };
    using own = await saved(1);
    using other = await saved(2);
    using trainer = await Trainer.create(trainerOptions(own, { adapter: lora({ rank: 2 }), policy: never() }));
    const directory = memoryDirectory("saved");
    await saveAdapter(directory, trainer);
    const warnings: string[] = [];
    const warn = (message: string) => warnings.push(message);
    await loadAdapter(directory, own, { warn });
    expect(warnings).toEqual([]);
    await loadAdapter(directory, other, { warn });
    expect(warnings).toEqual([
      "The adapter in saved was trained on model 1, whose bert.encoder.layer.0.attention.self.query.weight is not that of model 2.\n" +
        "Use it with the model that it was trained on, unless this one is meant.",
    ]);
  });

  it("of a model that was saved and loaded gives the same losses", async () => {
    using model = await initialiseModel(engine, BERT);
    const directory = memoryDirectory("model");
    await saveModel(directory, model);
    using copy = await loadModel(engine, directory);
    const train = async (loaded: LoadedModel): Promise<readonly number[]> => {
      using trainer = await Trainer.create(trainerOptions(loaded, { steps: 2, policy: never() }));
      return (await trainer.train()).losses;
    };
    expect(await train(copy)).toEqual(await train(model));
  });
});

describe("an error", () => {
  it("names the modules that exist when none matches", async () => {
    using model = await initialiseModel(engine, BERT);
    const error = await failure(Trainer.create(trainerOptions(model, { adapter: lora({ targets: ["nowhere"] }) })));
    expect(error.message).toMatch(/No module of this bert model is called "nowhere"[\s\S]*self\.query/);
  });

  it("names an unknown model type or activation", () => {
    expect(() => createModel({ model_type: "mamba" })).toThrow(/model_type "mamba" is not supported[\s\S]*bert/);
    expect(() => createModel(tiny.bert({ hidden_act: "swish2" }))).toThrow(/swish2[\s\S]*gelu/);
  });

  it("is thrown for samples that are longer than the rows", () => {
    expect(() => new Batches(samples(4), { size: 2, maxLength: 3 })).toThrow(DataError);
  });

  it("about a missing tensor leaves no memory behind", async () => {
    using model = await initialiseModel(engine, BERT);
    const directory = memoryDirectory("model");
    await saveModel(directory, model);
    const config = parseJson<Config>(new TextDecoder().decode(await directory.read("config.json")));
    await directory.write("config.json", jsonBytes({ ...config, num_hidden_layers: 5 }));
    const before = engine.ledger.liveBytes;
    expect((await failure(loadModel(engine, directory))).fact).toMatch(/has no tensor bert\.encoder\.layer\.4/);
    expect(engine.ledger.liveBytes).toBe(before);
  });
});
