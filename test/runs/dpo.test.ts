import { describe, expect, it } from "vitest";
import {
  aflora,
  afloraFreezing,
  fixed,
  full,
  initialiseModel,
  loadModel,
  lora,
  meft,
  plan,
  promptTuning,
  safe,
  Trainer,
} from "safetape";
import type { LoadedModel, TrainerOptions } from "safetape";
import { ADAPTER_KINDS, makeAdapter } from "safetape/analysis";
import { Batches, memoryDirectory } from "safetape/data";
import { ConfigError, DataError, MemoryBudgetError, sumBytes } from "safetape/engine";
import { dpo, DPO_LOSSES, PreferenceBatches, rewardScores, withReference } from "safetape/preference";
import type { DpoOptions, RewardMetrics } from "safetape/preference";
import { gradientName } from "../../src/run/store";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { readJson } from "../support/json";
import { answerSample, pairBatches, tinyPairs, tinyPreferences } from "../support/preferences";
import { tiny, tinySamples } from "../support/tiny";
import type { Config } from "../support/tiny";
import { some } from "../support/long";

interface Reference {
  readonly beta: number;
  readonly learningRate: number;
  readonly batch: number;
  readonly cases: readonly {
    readonly folder: string;
    readonly targets: readonly string[];
    readonly pairs: readonly Readonly<Record<"prompt" | "chosen" | "rejected", readonly number[]>>[];
    readonly start: Readonly<Record<string, { readonly shape: readonly number[]; readonly data: readonly number[] }>>;
    readonly results: readonly {
      readonly loss: NonNullable<DpoOptions["loss"]>;
      readonly labelSmoothing: number;
      readonly value: number;
      /** Of the chosen and the rejected answer of each pair. */
      readonly rewards: readonly number[];
      readonly gradients: Readonly<Record<string, readonly number[]>>;
    }[];
    readonly run?: {
      readonly losses: readonly number[];
      readonly tensors: Readonly<Record<string, readonly number[]>>;
    };
  }[];
}

const engine = await useEngine();
const reference = readJson<Reference>("test/interop/dpo.json");
const { beta, learningRate } = reference;
type Case = Reference["cases"][number];

/** Makes a trainer of a case's model, adapter and pairs. */
async function ofCase(
  { folder, targets, pairs, start }: Case,
  changes: Partial<TrainerOptions>,
  body: (trainer: Trainer, data: PreferenceBatches) => Promise<void>,
): Promise<void> {
  using model = await loadModel(engine, `test/${folder}`);
  const samples = pairs.map(({ prompt, chosen, rejected }) => ({
    chosen: answerSample(prompt, chosen),
    rejected: answerSample(prompt, rejected),
  }));
  const data = pairBatches(await withReference(model, samples, { size: 2 }), reference.batch);
  const initial = new Map(
    Object.entries(start).map(([name, { shape, data: values }]) => [name, { shape, data: Float32Array.from(values) }]),
  );
  const adapter = lora({ rank: 2, alpha: 4, targets: [...targets] });
  using trainer = await Trainer.create({
    model,
    adapter,
    data,
    initial,
    steps: 5,
    optimizer: { learningRate },
    schedule: { type: "constant" },
    ...changes,
  });
  await body(trainer, data);
}

const relativeError = (actual: ArrayLike<number>, expected: readonly number[]): number => {
  const largest = Math.max(...expected.map(Math.abs), 1e-30);
  return Math.max(...expected.map((value, i) => Math.abs(actual[i]! - value))) / largest;
};

describe("DPO against float64", () => {
  const results = reference.cases.flatMap((each) =>
    each.results.map((result) => ({ ...result, each, folder: each.folder })),
  );
  it.each(some(results, 2))(
    "has the loss, the rewards and the gradients of $folder: $loss, smoothing $labelSmoothing",
    async ({ each, loss, labelSmoothing, value, rewards, gradients }) => {
      await ofCase(each, { loss: dpo({ beta, loss, labelSmoothing }) }, async (trainer, data) => {
        const first = new PreferenceBatches(data.pairs, { size: reference.batch, shuffle: false }).next();
        const seen: number[] = [];
        const evaluation = await trainer.evaluate([first], (_, values) => seen.push(...values));
        expect(evaluation.loss).toBeCloseTo(value, 5);
        expect(evaluation.count).toBe(reference.batch);
        expect(relativeError(seen, rewards), "rewards").toBeLessThan(2e-5);
        for await (const report of trainer.steps()) {
          expect(Math.abs(report.loss - value)).toBeLessThan(5e-6);
          break;
        }
        for (const [name, expected] of Object.entries(gradients)) {
          const gradient = await trainer.state.tensor(gradientName(name)).read();
          expect(relativeError(gradient, expected), name).toBeLessThan(5e-5);
        }
      });
    },
  );

  const [withRun] = reference.cases.filter((each) => each.run);
  it.each([
    ["complete batches", {}],
    ["pairs one by one", { memory: { microBatch: 2 } }],
    ["recomputed layers", { memory: { recompute: "layers" } }],
  ] as const)("trains as torch does: %s", async (_, changes) => {
    const { losses, tensors } = withRun!.run!;
    await ofCase(withRun!, { loss: dpo({ beta }), ...changes }, async (trainer) => {
      const own: number[] = [];
      for await (const { loss, bytes, planned } of trainer.steps()) {
        expect(bytes).toEqual(planned);
        own.push(loss);
      }
      losses.forEach((loss, i) => expect(Math.abs(own[i]! - loss), `loss ${i + 1}`).toBeLessThan(5e-6));
      const trained = await trainer.snapshot();
      for (const [name, expected] of Object.entries(tensors)) {
        const { data } = trained.get(name)!;
        const start = withRun!.start[name]!.data;
        const moved = Math.max(...expected.map((value, i) => Math.abs(value - start[i]!)));
        const error = Math.max(...expected.map((value, i) => Math.abs(value - data[i]!)));
        expect(error / moved, name).toBeLessThan(5e-3);
      }
    });
  });
});

describe("a run of DPO", () => {
  const CONFIG = tiny.qwen3();
  const SETTINGS = { steps: 6, seed: 3, optimizer: { learningRate: 0.01 } };

  /** Runs on a model of its own; `begin` is before the first step. */
  async function run<T>(
    changes: Partial<TrainerOptions>,
    body: (trainer: Trainer, data: PreferenceBatches) => Promise<T>,
    config: Config = CONFIG,
  ): Promise<T> {
    using model: LoadedModel = await initialiseModel(engine, config);
    const data = await tinyPreferences(model);
    const options = { model, data, adapter: lora({ rank: 2 }), loss: dpo(), ...SETTINGS, ...changes };
    using trainer = await Trainer.create(options);
    return await body(trainer, data);
  }

  async function rewards(trainer: Trainer, data: PreferenceBatches): Promise<RewardMetrics> {
    const scores = rewardScores();
    await trainer.evaluate(new PreferenceBatches(data.pairs, { size: 2, shuffle: false }).restOfEpoch(), scores.see);
    return scores.metrics();
  }

  it("raises margins and accuracy, from rewards of 0", async () => {
    using model = await loadModel(engine, "test/golden-families/qwen3-left");
    const data = await tinyPreferences(model);
    const adapter = lora({ rank: 4, targets: "all-linear" });
    using trainer = await Trainer.create({ model, data, adapter, loss: dpo(), ...SETTINGS, steps: 40 });
    const before = await rewards(trainer, data);
    expect(Math.abs(before["rewards/margins"])).toBeLessThan(1e-4);
    const { lossFirst, lossLast } = await trainer.train();
    expect(lossFirst).toBeCloseTo(Math.log(2), 4);
    expect(lossLast).toBeLessThan(0.45);
    const after = await rewards(trainer, data);
    expect(after["rewards/accuracies"]).toBe(1);
    expect(after["rewards/margins"]).toBeGreaterThan(0.5);
    expect(after["rewards/margins"]).toBeCloseTo(after["rewards/chosen"] - after["rewards/rejected"], 5);
  });

  it.each(DPO_LOSSES)("holds what is planned, with the loss %s, and pads pairs", async (loss) => {
    await run({ loss: dpo({ loss }) }, async (trainer, data) => {
      const predicted = plan({ config: CONFIG, adapter: lora({ rank: 2 }), batch: 6, length: 16, loss: dpo({ loss }) });
      for await (const { bytes, planned } of trainer.steps()) {
        expect(bytes).toEqual(planned);
        expect(sumBytes(bytes)).toBe(predicted.peakBytes);
      }
      // Five pairs in batches of three: the mean is over five.
      const evaluation = await trainer.evaluate(data.restOfEpoch());
      expect(evaluation.count).toBe(5);
    });
  });

  const RESUMED: Readonly<Record<string, () => Partial<TrainerOptions>>> = {
    "dropout, accumulated": () => ({ adapter: lora({ rank: 2, dropout: 0.2 }), accumulate: 2 }),
    "SAFE, pairs one by one": () => ({
      policy: safe({ every: 1, maxWarmup: 2, targetFreezeFraction: 0.6 }),
      memory: { microBatch: 2 },
    }),
    AFLoRA: () => ({
      adapter: aflora({ rank: 2, matrices: "both" }),
      policy: afloraFreezing({ initialEpochs: 0, finalShare: 0.2 }),
    }),
    "merging, and a kept prefix": () => ({
      policy: fixed([{ beforeStep: 2, tensors: ["layers.0."] }]),
      dropout: false,
      prefixCache: true,
      mergeOnFreeze: true,
    }),
    "full tuning": () => ({ adapter: full() }),
    "IPO, virtual tokens": () => ({ adapter: promptTuning({ tokens: 3 }), loss: dpo({ loss: "ipo" }) }),
  };
  it.each(some(Object.keys(RESUMED), 2))("resumes to the same bits: %s", async (name) => {
    const make = RESUMED[name]!;
    const outcome = async (trainer: Trainer) => {
      await trainer.train();
      const tensors = [...(await trainer.snapshot())].map(([key, { data }]) => [key, [...data]] as const);
      const { losses, freezes } = trainer.history;
      return { losses, freezes: freezes.length, tensors };
    };
    const expected = await run(make(), outcome);
    const checkpoints = { directory: memoryDirectory("run"), resume: true, every: 0 };
    await run({ ...make(), checkpoints }, async (trainer) => {
      for await (const { step, bytes, planned } of trainer.steps()) {
        expect(bytes).toEqual(planned);
        if (step === 3) break;
      }
      await trainer.saveCheckpoint();
    });
    expect(await run({ ...make(), checkpoints }, outcome)).toEqual(expected);
    if (["SAFE, pairs one by one", "AFLoRA"].includes(name)) expect(expected.freezes).toBeGreaterThan(0);
  });

  it("belongs to its beta and its loss", async () => {
    const checkpoints = { directory: memoryDirectory("run"), resume: true, every: 0 };
    await run({ checkpoints }, (trainer) => trainer.saveCheckpoint());
    const { message } = await failure(
      run({ checkpoints, loss: dpo({ beta: 0.2 }) }, () => Promise.resolve()),
      ConfigError,
    );
    expect(message).toMatch(/loss\.settings\.beta is 0\.2 here and 0\.1 there/);
  });

  const SMALL: Readonly<Record<string, Record<string, unknown>>> = {
    adalora: { initialRank: 4, targetRank: 2, warmupSteps: 1, finalSteps: 1, every: 1 },
    vera: { rank: 4 },
    prompt: { tokens: 4 },
    prefix_tuning: { tokens: 4 },
    p_tuning: { tokens: 4 },
  };
  /** The adapters that do not begin as the model, so that rewards do not begin at 0. */
  const OTHER_STARTS = ["prompt", "prefix_tuning", "p_tuning", "houlsby", "pfeiffer", "sora"];
  it.each(
    some(
      ADAPTER_KINDS.filter((kind) => kind !== "meft"),
      3,
    ),
  )("keeps the base as its reference: %s", async (kind) => {
    const adapter = makeAdapter({ kind, ...SMALL[kind] });
    const check = async (trainer: Trainer, data: PreferenceBatches): Promise<void> => {
      const before = await rewards(trainer, data);
      if (!OTHER_STARTS.includes(kind)) expect(Math.abs(before["rewards/chosen"])).toBeLessThan(1e-4);
      const given = JSON.stringify(data.pairs.map((pair) => pair.reference));
      for await (const { bytes, planned } of trainer.steps()) expect(bytes).toEqual(planned);
      expect(JSON.stringify(data.pairs.map((pair) => pair.reference))).toBe(given);
      expect((await rewards(trainer, data))["rewards/margins"]).toBeGreaterThan(before["rewards/margins"]);
    };
    await run({ adapter, dropout: false }, check, tiny.gpt2());
  });

  it("keeps to a memory budget, by fewer pairs", async () => {
    using model = await initialiseModel(engine, CONFIG);
    const pairs = tinyPairs(8);
    const { neededBytes } = await failure(withReference(model, pairs, { budget: 1 }), MemoryBudgetError);
    engine.ledger.resetPeak();
    const frugal = await withReference(model, pairs, { budget: neededBytes });
    expect(engine.ledger.peakBytes).toBeLessThanOrEqual(neededBytes);
    const full = await withReference(model, pairs);
    frugal.forEach(({ reference: own }, i) => expect(own.chosen).toBeCloseTo(full[i]!.reference.chosen, 4));
    const options = { model, adapter: lora({ rank: 2 }), loss: dpo(), ...SETTINGS };
    const budgeted = (budget: number) =>
      Trainer.create({ ...options, data: pairBatches(full, 4), memory: { budget, microBatch: "fit" } });
    const least = await failure(budgeted(1), MemoryBudgetError);
    engine.ledger.resetPeak();
    using trainer = await budgeted(least.neededBytes);
    for await (const { rowsAtOnce } of trainer.steps()) expect(rowsAtOnce).toBe(2);
    expect(sumBytes(trainer.peak)).toBeLessThanOrEqual(least.neededBytes);
  });
});

describe("what DPO refuses", () => {
  async function create<T>(changes: Partial<TrainerOptions>, body: (trainer: Trainer) => Promise<T>): Promise<T> {
    using model = await initialiseModel(engine, tiny.gpt2());
    const data = await tinyPreferences(model);
    using trainer = await Trainer.create({ model, data, adapter: lora(), loss: dpo(), steps: 2, ...changes });
    return await body(trainer);
  }

  it.each([
    ["no loss of pairs", { loss: undefined }, DataError, /batches have pairs of answers[^]*dpo\(\)/],
    ["MEFT", { adapter: meft() }, ConfigError, /meft carries two streams/],
    ["half pairs", { memory: { microBatch: 3 } }, ConfigError, /microBatch is 3, and a pair of answers is two rows/],
    ["the task's label smoothing", { labelSmoothing: 0.1 }, ConfigError, /labelSmoothing 0.1 is of the task's loss/],
  ] as const)("%s", async (_, changes, Kind, message) => {
    const { message: text } = await failure(
      create(changes, () => Promise.resolve()),
      Kind,
    );
    expect(text).toMatch(message);
  });

  it("batches of single texts, pairs without a reference, other models and wrong options", async () => {
    const texts = new Batches(tinySamples(4, { areTokens: true }), { size: 2, labels: "token" });
    const alone = await failure(
      create({ data: texts }, (trainer) => trainer.train()),
      DataError,
    );
    expect(alone.message).toMatch(/no reference for pairs of answers[^]*PreferenceBatches/);
    // A program without types may forget the reference.
    const unreferenced = tinyPairs(2) as never;
    const early = await failure(() => new PreferenceBatches(unreferenced, { size: 1 }), DataError);
    expect(early.message).toMatch(/pair 1 has no reference/);
    using t5 = await initialiseModel(engine, tiny.t5());
    expect((await failure(withReference(t5, tinyPairs(1)), ConfigError)).message).toMatch(/is for seq2seq/);
    for (const options of [{ beta: 0 }, { beta: NaN }, { labelSmoothing: 0.5 }, { loss: "ipo", labelSmoothing: 0.1 }]) {
      // Programs without types may give anything.
      await failure(() => dpo(options as DpoOptions), ConfigError);
    }
  });
});
