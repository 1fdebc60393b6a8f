import { mkdir, readdir, rmdir } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import {
  adapterDrop,
  bitfit,
  fixed,
  full,
  initialiseModel,
  lora,
  loraPrune,
  never,
  promptTuning,
  Trainer,
} from "safetape";
import { ConfigError, FileFormatError } from "safetape/engine";
import { filePrefixStore, memoryPrefixStore } from "safetape/data";
import type { Batch, LoadedModel, PrefixReport, StepReport, TrainerOptions } from "safetape";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { useFolder } from "../support/folder";
import { trainedValues } from "../support/tensors";
import { FAMILIES, layerNames, tiny, tinyData } from "../support/tiny";
import { some } from "../support/long";

const engine = await useEngine();
const path = useFolder();

interface Result {
  readonly reports: readonly StepReport[];
  readonly losses: readonly number[];
  readonly weights: readonly number[];
  readonly evaluations: readonly number[];
}

/** An epoch has three batches: layer 0 freezes in the second epoch, layer 1 at the end of the third. */
const freezes = () =>
  fixed([
    { beforeStep: 4, tensors: layerNames(0) },
    { beforeStep: 8, tensors: layerNames(1) },
  ]);
const STEPS = 15;

/** Five epochs without dropout over batches of 3 rows, where the last batch of an epoch has 2; an evaluation every four steps. */
async function train(model: LoadedModel, options: Partial<TrainerOptions> = {}, multiple = 16): Promise<Result> {
  const adapter = lora({ rank: 2, targets: "all-linear" });
  const data = tinyData(model, 3, multiple);
  const settings = { model, adapter, data, policy: freezes(), steps: STEPS, seed: 3, dropout: false, ...options };
  const heldOut = tinyData(model, 2, multiple);
  using trainer = await Trainer.create(settings);
  const reports: StepReport[] = [];
  const evaluations: number[] = [];
  for await (const report of trainer.steps()) {
    expect(report.bytes, "ledger against plan").toEqual(trainer.predictedBytes());
    reports.push(report);
    if (report.step % 4 === 0) evaluations.push((await trainer.evaluate([heldOut.next(), heldOut.next()])).loss);
  }
  return { reports, losses: reports.map(({ loss }) => loss), weights: await trainedValues(trainer), evaluations };
}

const prefixes = ({ reports }: Result): PrefixReport[] => reports.map(({ prefix }) => prefix!);
const hits = (result: Result): number => prefixes(result).reduce((sum, prefix) => sum + prefix.hits, 0);
const results = ({ losses, weights, evaluations }: Result) => ({ losses, weights, evaluations });

describe.each(some(FAMILIES, 2))("a cached prefix of %s", (family) => {
  it("gives the same losses and weights in fewer FLOPs, as layers freeze", async () => {
    using model = await initialiseModel(engine, tiny[family]());
    const plain = await train(model);
    const cached = await train(model, { prefixCache: true });
    expect(results(cached)).toEqual(results(plain));
    expect(prefixes(cached).map(({ layer }) => layer)).toEqual([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2]);
    // The epoch after a freeze fills the cache; in the next one every batch starts from it.
    const lastEpoch = prefixes(cached).slice(12);
    expect(lastEpoch.map((prefix) => `${prefix.hits} of ${prefix.parts}`)).toEqual(["1 of 1", "1 of 1", "1 of 1"]);
    expect(cached.reports.at(-1)?.flops).toBeLessThan(0.8 * (plain.reports.at(-1)?.flops ?? 0));
  });
});

describe("a prefix cache", () => {
  it.each(some(["roberta", "gpt2"] as const, 2))(
    "gives the same results for %s with varying lengths, micro-batches and accumulation",
    async (family) => {
      using model = await initialiseModel(engine, tiny[family]());
      const options = { accumulate: 2, memory: { microBatch: 2, recompute: "layers" as const } };
      const plain = await train(model, options, 4);
      const cached = await train(model, { ...options, prefixCache: true }, 4);
      expect(results(cached)).toEqual(results(plain));
      expect(hits(cached), "parts that started from the cache").toBeGreaterThan(0);
    },
  );

  it("holds the bytes of tokens and not of padding, and drops them when the prefix grows", async () => {
    using model = await initialiseModel(engine, tiny.bert());
    const tokens = [...tinyData(model, 8).restOfEpoch()][0]!;
    const elements = tokens.attentionMask.reduce((sum, bit) => sum + bit, 0) * model.model.hiddenSize;
    const reports = prefixes(await train(model, { prefixCache: true }));
    expect(reports.map(({ bytes }) => bytes).slice(0, 5)).toEqual([0, 0, 0, 0, expect.any(Number)]);
    expect(reports[7]?.bytes).toBeGreaterThan(reports[4]?.bytes ?? 0);
    expect(reports[8]?.bytes, "after the next freeze").toBeLessThan(reports[7]?.bytes ?? 0);
    expect(reports.at(-1)?.bytes).toBe(4 * elements);
    const half = prefixes(await train(model, { prefixCache: { format: "f16" } }));
    expect(half.at(-1)?.bytes).toBe(2 * elements);
  });

  it("is close in f16, and finds rows in batches of any length", async () => {
    using model = await initialiseModel(engine, tiny.gpt2());
    const plain = await train(model, {}, 2);
    const exact = await train(model, { prefixCache: true }, 2);
    const half = await train(model, { prefixCache: { format: "f16" } }, 2);
    half.losses.forEach((loss, i) => expect(loss).toBeCloseTo(plain.losses[i] ?? NaN, 2));
    expect(half.losses).not.toEqual(plain.losses);
    expect(hits(half)).toBeGreaterThan(hits(exact));
  });

  it("gives the same results under a limit of a few rows, and keeps to the limit", async () => {
    using model = await initialiseModel(engine, tiny.bert());
    const plain = await train(model, { memory: { microBatch: 1 } });
    const bytes = 3 * 14 * 16 * 4;
    const store = memoryPrefixStore();
    const limited = await train(model, { memory: { microBatch: 1 }, prefixCache: { bytes, store } });
    expect(results(limited)).toEqual(results(plain));
    const reports = prefixes(limited);
    expect(hits(limited)).toBeGreaterThan(0);
    expect(reports.some((prefix) => prefix.layer > 0 && prefix.hits < prefix.parts)).toBe(true);
    for (const report of reports) expect(report.bytes).toBeLessThanOrEqual(bytes);
    expect(store.bytes, "after the trainer was disposed of").toBe(0);
  });

  it("gives the same bits from a file, which it removes at the end", async () => {
    using model = await initialiseModel(engine, tiny.vit());
    const folder = path("cache");
    await mkdir(folder);
    const store = filePrefixStore(path("cache", "rows"));
    const fileCounts: number[] = [];
    const counting = { ...store, clear: async () => (fileCounts.push((await readdir(folder)).length), store.clear()) };
    Object.defineProperty(counting, "bytes", { get: () => store.bytes });
    const fromFile = await train(model, { prefixCache: { store: counting } });
    const fromMemory = await train(model, { prefixCache: true });
    expect(results(fromFile)).toEqual(results(fromMemory));
    expect(prefixes(fromFile)).toEqual(prefixes(fromMemory));
    expect(fileCounts.at(-1), "files while the cache is in use").toBe(1);
    expect(await readdir(folder)).toEqual([]);
    await rmdir(folder);
    const nowhere = filePrefixStore(path("cache", "rows"));
    const error = await failure(train(model, { prefixCache: { store: nowhere } }), FileFormatError);
    expect(error.message).toMatch(/cannot create the file/);
  });

  it("covers all layers where only the head learns", async () => {
    using model = await initialiseModel(engine, tiny.roberta());
    const policy = () => fixed([{ beforeStep: 3, tensors: layerNames(0, 1, 2) }]);
    const plain = await train(model, { policy: policy() });
    const cached = await train(model, { policy: policy(), prefixCache: true });
    expect(results(cached)).toEqual(results(plain));
    expect(prefixes(cached).at(-1)).toMatchObject({ layer: 3, hits: 1 });
  });

  it("is not used while embeddings learn, and is used from the start where lower layers never learn", async () => {
    using model = await initialiseModel(engine, tiny.bert());
    const policy = fixed([{ beforeStep: 3, tensors: layerNames(0) }]);
    const tuned = await train(model, { adapter: full(), policy, prefixCache: true });
    expect(new Set(prefixes(tuned).map(({ layer }) => layer))).toEqual(new Set([0]));
    const upper = { adapter: bitfit({ layers: [1, 2] }), policy: never() };
    const plain = await train(model, upper);
    const cached = await train(model, { ...upper, prefixCache: true });
    expect(results(cached)).toEqual(results(plain));
    expect(prefixes(cached)[0]).toMatchObject({ layer: 1, hits: 0 });
    expect(prefixes(cached).at(-1)).toMatchObject({ layer: 1, hits: 1 });
  });

  it("is emptied when a frozen tensor is overwritten", async () => {
    using model = await initialiseModel(engine, tiny.bert());
    const data = tinyData(model, 8);
    const policy = fixed([{ beforeStep: 4, tensors: layerNames(0) }]);
    const options = { model, adapter: lora(), data, policy, steps: 9, dropout: false, prefixCache: true };
    using trainer = await Trainer.create(options);
    const reports: PrefixReport[] = [];
    for await (const { step, prefix } of trainer.steps()) {
      reports.push(prefix!);
      if (step === 7) trainer.state.restore(await trainer.state.snapshot());
    }
    expect(reports.map((prefix) => prefix.hits)).toEqual([0, 0, 0, 0, 0, 1, 1, 0, 1]);
  });

  it("is not used for batches without the ids of their samples", async () => {
    using model = await initialiseModel(engine, tiny.bert());
    const plain = await train(model);
    const named = tinyData(model, 3);
    let calls = 0;
    const next = (): Batch => {
      const { ids, ...batch } = named.next();
      return calls++ === 0 && ids ? { ...batch, ids } : batch;
    };
    const cached = await train(model, { data: { perEpoch: named.perEpoch, next }, prefixCache: true });
    expect(results(cached)).toEqual(results(plain));
    expect(hits(cached)).toBe(0);
  });
});

describe("a prefix cache is refused for", () => {
  it.each<[string, Partial<TrainerOptions>, RegExp]>([
    ["dropout in the prefix", { dropout: true }, /dropout acts below the first layer's output/],
    ["virtual tokens", { adapter: promptTuning({ tokens: 2 }) }, /virtual tokens/],
    ["layers that are dropped in some steps", { policy: adapterDrop() }, /leaves other layers out/],
    ["a base model that changes", { policy: loraPrune() }, /changes the base model/],
    ["a limit of 0 bytes", { prefixCache: { bytes: 0 } }, /prefixCache.bytes is 0/],
    // Plain JavaScript may pass any text.
    ["an unknown format", { prefixCache: { format: "f8" as "f16" } }, /format is f8/],
  ])("%s", async (_, options, message) => {
    using model = await initialiseModel(engine, tiny.bert());
    const error = await failure(train(model, { prefixCache: true, ...options }), ConfigError);
    expect(error.message).toMatch(message);
  });

  it("a source that never gives the ids of samples", async () => {
    using model = await initialiseModel(engine, tiny.bert());
    const source = tinyData(model);
    const next = (): Batch => {
      const { ids: _, ...batch } = source.next();
      return batch;
    };
    const error = await failure(train(model, { prefixCache: true, data: { perEpoch: 2, next } }), ConfigError);
    expect(error.message).toMatch(/do not say which samples/);
  });
});
