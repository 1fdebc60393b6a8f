import { describe, expect, it } from "vitest";
import {
  adalora,
  aflora,
  afloraFreezing,
  bitfit,
  fixed,
  full,
  houlsby,
  initialiseModel,
  loadAdapter,
  lora,
  freezeToFit,
  never,
  safe,
  sora,
  saveAdapter,
  sparseAdapter,
  Trainer,
  upperLayers,
} from "safetape";
import { resting } from "safetape/analysis";
import { ConfigError } from "safetape/engine";
import { Batches, memoryDirectory } from "safetape/data";
import type { Adapter, LayerDropPolicy, LoadedModel, Policy, TrainerOptions } from "safetape";
import { useEngine } from "../support/engine";
import { gradientName } from "../../src/run/store";
import { failure } from "../support/failure";
import { tiny, tinyData, tinySamples } from "../support/tiny";

const BERT = tiny.bert({ hidden_size: 32, num_hidden_layers: 4, num_attention_heads: 4, intermediate_size: 64 });

const engine = await useEngine();

function trainerOptions(model: LoadedModel, changes: Partial<TrainerOptions> = {}): TrainerOptions {
  const data = new Batches(tinySamples(24, { longest: 16 }), { size: 4, seed: 3, maxLength: 16, multiple: 16 });
  return { model, adapter: lora({ rank: 4, alpha: 8, dropout: 0.1 }), data, steps: 8, seed: 5, ...changes };
}

const valuesOf = async (trainer: Trainer, suffix: string): Promise<number[]> =>
  [...(await trainer.state.snapshot())].filter(([name]) => name.endsWith(suffix)).flatMap(([, { data }]) => [...data]);

/**
 * Row i of A, element i of d and column i of B have one sum of weight times gradient: a factor on any of them is the same
 * factor on the product. So AFLoRA's rank budget may read d alone.
 */
async function expectSharedSensitivity(trainer: Trainer, before: ReadonlyMap<string, { data: Float32Array }>) {
  const module = "bert.encoder.layer.1.output.dense.aflora";
  const products = async (part: string): Promise<Float32Array> => {
    const gradient = await trainer.state.tensor(gradientName(`${module}_${part}`)).read();
    return before.get(`${module}_${part}`)!.data.map((value, i) => value * gradient[i]!);
  };
  const [a, b, d] = [await products("A.weight"), await products("B.weight"), await products("d")];
  const [inSize, rank] = [a.length / d.length, d.length];
  d.forEach((ofComponent, k) => {
    const row = a.subarray(k * inSize, (k + 1) * inSize).reduce((sum, value) => sum + value, 0);
    const column = b.filter((_, i) => i % rank === k).reduce((sum, value) => sum + value, 0);
    expect(row / ofComponent, `row ${k} of A`).toBeCloseTo(1, 3);
    expect(column / ofComponent, `column ${k} of B`).toBeCloseTo(1, 3);
  });
}

describe("policies", () => {
  it("AFLoRA freezes A and B one by one, each by its own score, within its plans", async () => {
    using model = await initialiseModel(engine, BERT);
    const adapter = aflora({ rank: 2, targets: ["query", "intermediate.dense"], matrices: "both" });
    const policy = afloraFreezing({ initialEpochs: 0, finalShare: 0.5 });
    using trainer = await Trainer.create(trainerOptions(model, { adapter, policy, steps: 12 }));
    expect(engine.ledger.live).toEqual(trainer.predictedBytes());
    const scored: number[] = [];
    for await (const { bytes, scores } of trainer.steps()) {
      expect(bytes, "ledger against plan").toEqual(trainer.predictedBytes());
      if (scores) scored.push(Object.keys(scores.values).length);
    }
    expect(scored[0], "matrices scored at first").toBe(16);
    expect(scored, "matrices scored later").toEqual(scored.toSorted((a, b) => b - a));
    const frozen = trainer.state.frozen.map((name) => name.replace(/^.*layer\./, ""));
    expect(frozen.filter((name) => /aflora_[AB]/.test(name))).toHaveLength(16);
    const vectors = frozen.filter((name) => /aflora_[db]$/.test(name));
    expect(vectors, "frozen vectors").toEqual([]);
  });

  it("AFLoRA's rank budget leaves so many components, while A and B freeze, within its plans", async () => {
    using model = await initialiseModel(engine, BERT);
    const adapter = aflora({ rank: 4, rankBudget: { targetRank: 2, finalShare: 0.25 } });
    const policy = afloraFreezing({ initialEpochs: 0.5, finalShare: 0.5 });
    using trainer = await Trainer.create(trainerOptions(model, { adapter, policy, steps: 12 }));
    let before = await trainer.snapshot();
    for await (const { step, bytes } of trainer.steps()) {
      expect(bytes, "ledger against plan").toEqual(trainer.predictedBytes());
      if (step === 2) await expectSharedSensitivity(trainer, before);
      before = await trainer.snapshot();
    }
    const vectors = [...before].filter(([name]) => name.endsWith(".aflora_d"));
    const ranks = vectors.map(([, { data }]) => data.filter((value) => value !== 0).length);
    // Six modules in each of four layers: 4 components each at first, 2 on average at the end. Those that would have none
    // keep one beyond the budget.
    expect(ranks).toHaveLength(24);
    expect(Math.min(...ranks), "components of a module").toBeGreaterThanOrEqual(1);
    const remaining = ranks.reduce((sum, rank) => sum + rank, 0);
    expect(remaining).toBeGreaterThanOrEqual(2 * 24);
    expect(remaining).toBeLessThanOrEqual(2 * 24 + ranks.filter((rank) => rank === 1).length);
    const matrices = trainer.state.frozen.filter((name) => /aflora_[AB]/.test(name));
    expect(matrices, "frozen A and B").toHaveLength(4 * 2 * 2);
    const file = memoryDirectory("adapter");
    await saveAdapter(file, trainer);
    const { adapter: loaded, tensors } = await loadAdapter(file, model);
    expect("start" in loaded, "a saved adapter has its final ranks").toBe(false);
    for (const [name, { data }] of tensors) expect(data, name).toEqual(before.get(name)!.data);
  });

  it("the schedule of AFLoRA's published code waits for its first windows, then freezes all matrices within its plans", async () => {
    using model = await initialiseModel(engine, BERT);
    const adapter = aflora({ rank: 2, targets: ["intermediate.dense", "output.dense"] });
    const policy = afloraFreezing({ mode: "published_code", initialEpochs: 1, finalShare: 0.5 });
    using trainer = await Trainer.create(trainerOptions(model, { adapter, policy, steps: 30 }));
    const total = trainer.state.live.size;
    for await (const { step, bytes, freezes } of trainer.steps()) {
      expect(bytes, "ledger against plan").toEqual(trainer.predictedBytes());
      if (step < 11) expect(freezes, `freezes in step ${step}`).toEqual([]);
    }
    const matrices = [...trainer.state.specs.keys()].filter((name) => /aflora_[AB]/.test(name));
    expect(trainer.state.frozen, "frozen after T - t_f").toEqual(expect.arrayContaining(matrices));
    expect(trainer.state.live.size, "tensors that still learn").toBe(total - matrices.length);
  });

  it.each([
    ["SAFE", safe({ every: 1, tauT: 1, maxWarmup: 1, rampEnd: 2 })],
    ["a fixed list", fixed([{ beforeStep: 2, tensors: ["."] }])],
  ])("%s that would freeze all of a language model leaves its uppermost layer, and says so once", async (_, policy) => {
    using model = await initialiseModel(engine, tiny.gpt2());
    const warnings: string[] = [];
    const directory = memoryDirectory("checkpoints");
    const create = (more: Partial<TrainerOptions>) =>
      Trainer.create({
        ...trainerOptions(model, { adapter: lora({ rank: 2 }), data: tinyData(model), policy, steps: 4 }),
        warn: (message) => void warnings.push(message),
        ...more,
      });
    using trainer = await create({ checkpoints: { directory, every: 3 } });
    await trainer.train();
    expect([...trainer.state.live.keys()].every((name) => name.includes(".h.2."))).toBe(true);
    expect(trainer.horizon).toBe(2);
    const kept: unknown = expect.stringMatching(/would freeze everything that still learns; layer 2 continues/);
    expect(warnings).toEqual([kept]);
    expect(trainer.policyRecord()["notes"]).toEqual([kept]);
    trainer.dispose();

    await directory.remove?.("checkpoint-00000004.safetensors");
    using resumed = await create({ checkpoints: { resume: directory } });
    await resumed.train();
    expect(resumed.policyRecord()["notes"], "after a resumption").toEqual([kept]);
    expect(warnings, "after a resumption").toHaveLength(1);
  });

  it("SAFE says at the end that it froze less than asked", async () => {
    using model = await initialiseModel(engine, BERT);
    const warnings: string[] = [];
    const policy = safe({ every: 1, tauT: 0 });
    using trainer = await Trainer.create(
      trainerOptions(model, { policy, warn: (message) => void warnings.push(message) }),
    );
    await trainer.train();
    expect(warnings).toEqual([expect.stringMatching(/froze nothing: no score fell below tauT 0/)]);
    expect(trainer.policyRecord()["notes"]).toEqual(warnings);
  });

  it("SAFE by gradient sensitivities freezes layers of full tuning, embeddings with the lowest, within its plans", async () => {
    using model = await initialiseModel(engine, BERT);
    const policy = safe({ measure: "weight_gradient", every: 1, maxWarmup: 2, rampEnd: 4, scores: "warmup" });
    using trainer = await Trainer.create(trainerOptions(model, { adapter: full(), policy }));
    let scored = 0;
    for await (const { bytes, scores } of trainer.steps()) {
      expect(bytes, "ledger against plan").toEqual(trainer.predictedBytes());
      if (scores?.kind === "sensitivity") scored = Math.max(scored, Object.keys(scores.values).length);
    }
    expect(scored, "tensors scored").toBe(trainer.state.specs.size);
    const { freezes } = trainer.history;
    expect(freezes.flatMap(({ layers }) => layers)).toHaveLength(2);
    const embeddings = freezes.filter(({ tensors }) => tensors.some((name) => name.includes("word_embeddings")));
    const lowest = freezes.filter(({ layers }) => layers.includes(0));
    expect(embeddings, "embeddings freeze with layer 0 and not without it").toEqual(lowest);
    expect(trainer.policyRecord()).toMatchObject({ measure: "weight_gradient" });
  });

  it("importance is that of the reference and of all the probe's batches", async () => {
    using model = await initialiseModel(engine, { ...BERT, initializer_range: 0.2 });
    const batches = new Batches(tinySamples(12, { longest: 16 }), { size: 4, seed: 9, maxLength: 16, multiple: 8 });
    const probe = [batches.next(), batches.next(), batches.next()];
    const firstScores = async (options: Partial<TrainerOptions>): Promise<number[]> => {
      using trainer = await Trainer.create(trainerOptions(model, { optimizer: { learningRate: 1e-2 }, ...options }));
      const { scores } = (await trainer.steps().next()).value!;
      return Object.values(scores!.values);
    };
    const [original, own] = [safe({ every: 1 }), safe({ every: 1, reference: "own" })];
    const single = await firstScores({ policy: original, probe: probe[0]! });
    const ofOwn = await firstScores({ policy: own, probe: probe[0]! });
    expect(ofOwn[0]).toBe(single[0]);
    expect(ofOwn[3], "an own adapter changes less than all below it").toBeLessThan(single[3]!);
    expect(await firstScores({ policy: original, probe: [probe[0]!] })).toEqual(single);
    const several = await firstScores({ policy: original, probe });
    expect(several[3]).toBeGreaterThan(0);
    expect(several[3]).not.toBe(single[3]);
    const none = Trainer.create(trainerOptions(model, { policy: original, probe: [] }));
    expect((await failure(none)).message).toMatch(/probe has no batches/);
  });

  it("upperLayers freezes before the first step", async () => {
    using model = await initialiseModel(engine, BERT);
    using trainer = await Trainer.create(trainerOptions(model, { policy: upperLayers(1), steps: 2 }));
    const { bytes, horizon, freezes } = (await trainer.steps().next()).value!;
    expect(horizon).toBe(3);
    expect(freezes).toMatchObject([{ step: 0, layers: [0, 1, 2] }]);
    expect(bytes).toEqual(trainer.predictedBytes());
  });

  it("a policy with nothing to freeze is refused, by its name", async () => {
    using model = await initialiseModel(engine, BERT);
    const runs = [
      { adapter: aflora({ matrices: "none" }), policy: afloraFreezing() },
      { adapter: bitfit(), policy: afloraFreezing({ tensors: /lora_A/g }) },
      { policy: fixed([{ beforeStep: 1, tensors: ["layer.9."] }]) },
      { policy: upperLayers(4) },
    ];
    for (const changes of runs) {
      const error = await failure(Trainer.create(trainerOptions(model, changes)), ConfigError);
      expect(error.message).toContain(`The policy ${changes.policy.name} has nothing to freeze`);
    }
    using trainer = await Trainer.create(trainerOptions(model, { policy: fixed([]), steps: 1 }));
    expect((await trainer.train()).freezes, "an empty list of freezes").toEqual([]);
  });

  it("AdapterDrop does not change the adapters of dropped layers", async () => {
    using model = await initialiseModel(engine, BERT);
    const policy: LayerDropPolicy = {
      kind: "layer_dropping",
      name: "the lower two in step 1",
      variants: () => [[0, 1]],
      start: () => ({ dropped: ({ step }) => (step === 1 ? [0, 1] : []) }),
    };
    using trainer = await Trainer.create(trainerOptions(model, { policy, steps: 3 }));
    const steps = trainer.steps();
    await steps.next();
    const before = await trainer.state.snapshot();
    await steps.next();
    const after = await trainer.state.snapshot();
    for (const [name, { data }] of after) {
      const isDropped = /layer\.[01]\./.test(name);
      const isSame = data.every((value, i) => value === before.get(name)?.data[i]);
      expect(isSame, name).toBe(isDropped);
    }
    expect((await steps.next()).value?.bytes, "ledger against plan").toEqual(trainer.predictedBytes());
  });

  it("resting adapters act and do not change, and what lies below the layers rests with them", async () => {
    using model = await initialiseModel(engine, BERT);
    const isLow = (name: string): boolean => /embeddings|layer\.0\./.test(name);
    const adapter = bitfit();
    expect(adapter.baseTensors?.(model.model).some((name) => name.includes("embeddings"))).toBe(true);
    const losses: number[][] = [];
    for (const policy of [resting({ every: 3, layers: 1 }), never()]) {
      using trainer = await Trainer.create(trainerOptions(model, { adapter, policy, steps: 4, dropout: false }));
      let before = await trainer.state.snapshot();
      const changes: [step: number, low: boolean, others: boolean][] = [];
      for await (const { step, loss, bytes } of trainer.steps()) {
        losses.push([step, loss]);
        expect(bytes, "ledger against plan").toEqual(trainer.predictedBytes());
        const after = await trainer.state.snapshot();
        const changed = [...after].filter(([name, { data }]) => data.some((v, i) => v !== before.get(name)!.data[i]));
        const names = changed.map(([name]) => name);
        changes.push([step, names.some(isLow), names.some((name) => !isLow(name))]);
        before = after;
      }
      const rests = policy.name === "resting";
      expect(changes).toEqual([1, 2, 3, 4].map((step) => [step, !rests || step % 3 === 1, true]));
    }
    // Both learn in the first step; in the second, what rests still acts.
    expect(losses[0]![1]).toBeCloseTo(losses[4]![1]!, 5);
    expect(losses[1]![1]).toBeCloseTo(losses[5]![1]!, 5);
  });

  it("steps in which all learn fit into the memory of those in which adapters rest", async () => {
    using model = await initialiseModel(engine, BERT);
    const bytesWith = async (policy: Policy): Promise<number> => {
      using trainer = await Trainer.create(trainerOptions(model, { policy, steps: 4 }));
      const { saved, scratch } = (await trainer.train()).peak;
      return saved + scratch;
    };
    const [rests, freezes, all] = [
      await bytesWith(resting({ layers: 2 })),
      await bytesWith(upperLayers(1)),
      await bytesWith(never()),
    ];
    expect(rests).toBeLessThan(0.9 * all);
    expect(rests).toBeLessThan(1.25 * freezes);
  });

  it.each([
    ["all", { layers: [0], modulesToSave: [] }],
    ["none", { layers: [2], modulesToSave: [] }],
  ])("a run in which %s of the tensors would rest is refused", async (which, where) => {
    using model = await initialiseModel(engine, BERT);
    const options = trainerOptions(model, { adapter: lora({ rank: 2, ...where }), policy: resting({ layers: 1 }) });
    const message = `resting lets ${which} of the 4 tensors that lora trains rest`;
    await expect(Trainer.create(options)).rejects.toThrow(message);
  });

  it.each(["magnitude", "snip", "random"] as const)("SparseAdapter by %s keeps pruned weights at 0", async (by) => {
    using model = await initialiseModel(engine, BERT);
    const policy = sparseAdapter({ keep: 0.5, by });
    using trainer = await Trainer.create(trainerOptions(model, { adapter: houlsby({ size: 4 }), policy, steps: 3 }));
    const steps = trainer.steps();
    await steps.next();
    const zeros = (tensors: ReadonlyMap<string, { data: Float32Array }>): number[] =>
      [...tensors]
        .filter(([name]) => name.includes("adapter_"))
        .map(([, { data }]) => data.filter((value) => value === 0).length);
    const pruned = zeros(await trainer.state.snapshot());
    const { bytes } = (await steps.next()).value!;
    expect(bytes, "ledger against plan").toEqual(trainer.predictedBytes());
    expect(zeros(await trainer.state.snapshot())).toEqual(pruned);
    const total = pruned.reduce((sum, count) => sum + count, 0);
    expect(total, "weights at 0").toBeGreaterThan(500);
  });

  it("freezeToFit meets its number of bytes with exactly those that it planned", async () => {
    using model = await initialiseModel(engine, BERT);
    using plain = await Trainer.create(trainerOptions(model, { steps: 1 }));
    const wholeBytes = engine.ledger.liveBytes;
    plain.dispose();
    const policy = freezeToFit({ bytes: Math.round(0.85 * wholeBytes), atStep: 2 });
    using trainer = await Trainer.create(trainerOptions(model, { policy, steps: 3 }));
    await trainer.train();
    expect(engine.ledger.liveBytes, "bytes after the freeze").toBeLessThanOrEqual(0.85 * wholeBytes);
    expect(trainer.policyRecord()).toMatchObject({ plannedBytes: engine.ledger.liveBytes });
  });

  it("SoRA closes gates, AdaLoRA prunes to its budget, and a penalty is part of the loss", async () => {
    using model = await initialiseModel(engine, BERT);
    const gates = sora({ rank: 4, threshold: 0.2, penalty: 0 });
    using sparse = await Trainer.create(trainerOptions(model, { adapter: gates, steps: 10 }));
    await sparse.train();
    const open = await valuesOf(sparse, "sora_g");
    expect(open.filter((value) => value === 0).length, "closed gates").toBeGreaterThan(open.length / 2);
    sparse.dispose();
    const ranks = adalora({ initialRank: 4, targetRank: 2, finalSteps: 1 });
    using pruned = await Trainer.create(
      trainerOptions(model, { adapter: ranks, steps: 8, optimizer: { learningRate: 1e-2 } }),
    );
    await pruned.train();
    const triplets = await valuesOf(pruned, "lora_E");
    expect(triplets.filter((value) => value !== 0).length, "live triplets of 32").toBeLessThanOrEqual(20);
    pruned.dispose();
    const firstStep = (adapter: Adapter) =>
      Trainer.create(trainerOptions(model, { adapter, steps: 1, dropout: false }));
    using free = await firstStep(sora({ rank: 4, penalty: 0 }));
    const { loss } = (await free.steps().next()).value!;
    free.dispose();
    using charged = await firstStep(sora({ rank: 4, penalty: 1 }));
    const initialGates = await valuesOf(charged, "sora_g");
    const mean = initialGates.reduce((sum, value) => sum + Math.abs(value), 0) / initialGates.length;
    expect((await charged.steps().next()).value?.loss).toBeCloseTo(loss + mean, 4);
  });

  it("AdaLoRA continues to prune the modules that still learn when others are frozen", async () => {
    using model = await initialiseModel(engine, BERT);
    const adapter = adalora({ initialRank: 4, targetRank: 2, finalSteps: 1 });
    using trainer = await Trainer.create(
      trainerOptions(model, { adapter, steps: 8, optimizer: { learningRate: 1e-2 } }),
    );
    const steps = trainer.steps();
    await steps.next();
    await trainer.freeze([...trainer.state.live.keys()].filter((name) => name.includes("layer.0.")));
    const frozen = await valuesOf(trainer, "layer.0.attention.self.query.lora_E");
    while (!(await steps.next()).done);
    expect(await valuesOf(trainer, "layer.0.attention.self.query.lora_E"), "a frozen module").toEqual(frozen);
    const triplets = await valuesOf(trainer, "lora_E");
    expect(triplets.filter((value) => value !== 0).length, "live triplets of 32").toBeLessThanOrEqual(20);
  });

  it("an adapter and a policy that both collect statistics of gradients are refused", async () => {
    using model = await initialiseModel(engine, BERT);
    const wrong = trainerOptions(model, { adapter: adalora(), policy: afloraFreezing() });
    expect((await failure(Trainer.create(wrong))).message).toMatch(/both collect statistics/);
  });
});
