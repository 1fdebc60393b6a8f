import { mkdtemp, readdir, rmdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  adapterDrop,
  bitfit,
  ConfigError,
  FileFormatError,
  filePrefixStore,
  fixed,
  full,
  initialiseModel,
  lora,
  loraPrune,
} from "safetape";
import { memoryPrefixStore, never, promptTuning, Trainer } from "safetape";
import type { Batch, LoadedModel, PrefixReport, StepReport, TrainerOptions } from "safetape";
import { useEngine } from "../support/engine";
import { FAMILIES, tiny, tinyData } from "../support/tiny";

const engine = await useEngine();

interface Run {
  readonly reports: readonly StepReport[];
  readonly losses: readonly number[];
  readonly weights: readonly number[];
  readonly evaluations: readonly number[];
}

const layerNames = (layer: number): string[] => ["layer", "layers", "h"].map((list) => `${list}.${layer}.`);
/** Three batches an epoch: layer 0 freezes in the second one, layer 1 at the end of the third. */
const FREEZES = () =>
  fixed([
    { beforeStep: 4, tensors: layerNames(0) },
    { beforeStep: 8, tensors: layerNames(1) },
  ]);
const STEPS = 15;

/** Five epochs without dropout over batches of 3 rows, the last one of an epoch with 2; an evaluation every four steps. */
async function run(model: LoadedModel, options: Partial<TrainerOptions> = {}, multiple = 16): Promise<Run> {
  const adapter = lora({ rank: 2, targets: "all-linear" });
  const data = tinyData(model, 3, multiple);
  const own = { model, adapter, data, policy: FREEZES(), steps: STEPS, seed: 3, dropout: false, ...options };
  const heldOut = tinyData(model, 2, multiple);
  using trainer = await Trainer.create(own);
  const reports: StepReport[] = [];
  const evaluations: number[] = [];
  for await (const report of trainer.steps()) {
    expect(report.bytes, "ledger against plan").toEqual(trainer.predictedBytes());
    reports.push(report);
    if (report.step % 4 === 0) evaluations.push((await trainer.evaluate([heldOut.next(), heldOut.next()])).loss);
  }
  const weights = [...(await trainer.state.snapshot()).values()].flatMap((tensor) => [...tensor.data]);
  return { reports, losses: reports.map(({ loss }) => loss), weights, evaluations };
}

const prefixes = ({ reports }: Run): PrefixReport[] => reports.map(({ prefix }) => prefix!);
const hits = (found: Run): number => prefixes(found).reduce((sum, prefix) => sum + prefix.hits, 0);
const results = ({ losses, weights, evaluations }: Run) => ({ losses, weights, evaluations });

describe.each(FAMILIES)("a cached prefix of %s", (family) => {
  it("gives the very losses and weights, in fewer FLOPs, as layers freeze", async () => {
    using model = await initialiseModel(engine, tiny[family]());
    const plain = await run(model);
    const cached = await run(model, { prefixCache: true });
    expect(results(cached)).toEqual(results(plain));
    expect(prefixes(cached).map(({ layer }) => layer)).toEqual([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2]);
    // The epoch after the one in which a layer froze fills the cache; from then on everything is there.
    expect(
      prefixes(cached)
        .slice(12)
        .map((prefix) => [prefix.hits, prefix.parts]),
    ).toEqual([
      [1, 1],
      [1, 1],
      [1, 1],
    ]);
    expect(cached.reports.at(-1)?.flops).toBeLessThan(0.8 * (plain.reports.at(-1)?.flops ?? 0));
  });
});

describe("a prefix cache", () => {
  it.each(["roberta", "gpt2"] as const)(
    "gives the very results of %s in varying lengths, cut up, accumulated",
    async (family) => {
      using model = await initialiseModel(engine, tiny[family]());
      const options = { microBatch: 2, accumulate: 2, recompute: "layers" as const };
      const plain = await run(model, options, 4);
      const cached = await run(model, { ...options, prefixCache: true }, 4);
      expect(results(cached)).toEqual(results(plain));
      expect(hits(cached), "parts that began at the cache").toBeGreaterThan(0);
    },
  );

  it("holds its tokens' bytes and no padding, and lets go of them when the prefix grows", async () => {
    using model = await initialiseModel(engine, tiny.bert());
    const tokens = [...tinyData(model, 8).restOfEpoch()][0]!;
    const each = tokens.attentionMask.reduce((sum, bit) => sum + bit, 0) * model.model.hiddenSize;
    const reports = prefixes(await run(model, { prefixCache: true }));
    expect(reports.map(({ bytes }) => bytes).slice(0, 5)).toEqual([0, 0, 0, 0, expect.any(Number)]);
    expect(reports[7]?.bytes).toBeGreaterThan(reports[4]?.bytes ?? 0);
    expect(reports[8]?.bytes, "after the next freeze").toBeLessThan(reports[7]?.bytes ?? 0);
    expect(reports.at(-1)?.bytes).toBe(4 * each);
    const half = prefixes(await run(model, { prefixCache: { format: "f16" } }));
    expect(half.at(-1)?.bytes).toBe(2 * each);
  });

  it("is close in f16, and finds rows again whatever their batch's length", async () => {
    using model = await initialiseModel(engine, tiny.gpt2());
    const plain = await run(model, {}, 2);
    const exact = await run(model, { prefixCache: true }, 2);
    const half = await run(model, { prefixCache: { format: "f16" } }, 2);
    half.losses.forEach((loss, i) => expect(loss).toBeCloseTo(plain.losses[i] ?? NaN, 2));
    expect(half.losses).not.toEqual(plain.losses);
    expect(hits(half)).toBeGreaterThan(hits(exact));
  });

  it("is right under a limit that holds a few rows, and keeps to it", async () => {
    using model = await initialiseModel(engine, tiny.bert());
    const plain = await run(model, { microBatch: 1 });
    const bytes = 3 * 14 * 16 * 4;
    const store = memoryPrefixStore();
    const limited = await run(model, { microBatch: 1, prefixCache: { bytes, store } });
    expect(results(limited)).toEqual(results(plain));
    const reports = prefixes(limited);
    expect(hits(limited)).toBeGreaterThan(0);
    expect(reports.some((prefix) => prefix.layer > 0 && prefix.hits < prefix.parts)).toBe(true);
    for (const report of reports) expect(report.bytes).toBeLessThanOrEqual(bytes);
    expect(store.bytes, "after the trainer went").toBe(0);
  });

  it("keeps rows in a file, to the same bits, and removes it", async () => {
    using model = await initialiseModel(engine, tiny.vit());
    const folder = await mkdtemp(join(tmpdir(), "safetape-"));
    const store = filePrefixStore(join(folder, "rows"));
    const found: number[] = [];
    const spied = { ...store, clear: async () => (found.push((await readdir(folder)).length), store.clear()) };
    Object.defineProperty(spied, "bytes", { get: () => store.bytes });
    const filed = await run(model, { prefixCache: { store: spied } });
    const kept = await run(model, { prefixCache: true });
    expect(results(filed)).toEqual(results(kept));
    expect(prefixes(filed)).toEqual(prefixes(kept));
    expect(found.at(-1), "files while it is in use").toBe(1);
    expect(await readdir(folder)).toEqual([]);
    await rmdir(folder);
    const nowhere = filePrefixStore(join(folder, "rows"));
    const failure = await run(model, { prefixCache: { store: nowhere } }).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(FileFormatError);
    expect((failure as Error).message).toMatch(/cannot create the file/);
  });

  it("begins with the head where only that learns", async () => {
    using model = await initialiseModel(engine, tiny.roberta());
    const policy = () => fixed([{ beforeStep: 3, tensors: [...[0, 1, 2].flatMap(layerNames)] }]);
    const plain = await run(model, { policy: policy() });
    const cached = await run(model, { policy: policy(), prefixCache: true });
    expect(results(cached)).toEqual(results(plain));
    expect(prefixes(cached).at(-1)).toMatchObject({ layer: 3, hits: 1 });
  });

  it("stays shut while embeddings learn, and is open from the start where lower layers never learn", async () => {
    using model = await initialiseModel(engine, tiny.bert());
    const policy = fixed([{ beforeStep: 3, tensors: layerNames(0) }]);
    const whole = await run(model, { adapter: full(), policy, prefixCache: true });
    expect(new Set(prefixes(whole).map(({ layer }) => layer))).toEqual(new Set([0]));
    const upper = { adapter: bitfit({ layers: [1, 2] }), policy: never() };
    const plain = await run(model, upper);
    const cached = await run(model, { ...upper, prefixCache: true });
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
    const found: PrefixReport[] = [];
    for await (const { step, prefix } of trainer.steps()) {
      found.push(prefix!);
      if (step === 7) trainer.state.restore(await trainer.state.snapshot());
    }
    expect(found.map((prefix) => prefix.hits)).toEqual([0, 0, 0, 0, 0, 1, 1, 0, 1]);
  });

  it("computes the prefix of batches that do not tell their samples", async () => {
    using model = await initialiseModel(engine, tiny.bert());
    const plain = await run(model);
    const named = tinyData(model, 3);
    let asked = 0;
    const next = (): Batch => {
      const { ids, ...batch } = named.next();
      return asked++ === 0 && ids ? { ...batch, ids } : batch;
    };
    const cached = await run(model, { data: { perEpoch: named.perEpoch, next }, prefixCache: true });
    expect(results(cached)).toEqual(results(plain));
    expect(hits(cached)).toBe(0);
  });
});

describe("refuses", () => {
  it.each<[string, Partial<TrainerOptions>, RegExp]>([
    ["dropout in the prefix", { dropout: true }, /dropout acts below the first layer's output/],
    ["virtual tokens", { adapter: promptTuning({ tokens: 2 }) }, /virtual tokens/],
    ["layers that come and go", { policy: adapterDrop() }, /leaves other layers out/],
    ["a base model that changes", { policy: loraPrune() }, /changes the base model/],
    ["no limit", { prefixCache: { bytes: 0 } }, /prefixCache.bytes is 0/],
    ["another format", { prefixCache: { format: "f8" as "f16" } }, /format is f8/],
  ])("%s", async (_, options, message) => {
    using model = await initialiseModel(engine, tiny.bert());
    const failure = await run(model, { prefixCache: true, ...options }).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(ConfigError);
    expect((failure as Error).message).toMatch(message);
  });

  it("batches that never tell their samples", async () => {
    using model = await initialiseModel(engine, tiny.bert());
    const source = tinyData(model);
    const next = (): Batch => ({ ...source.next(), ids: undefined }) as unknown as Batch;
    const failure = await run(model, { prefixCache: true, data: { perEpoch: 2, next } }).catch((e: unknown) => e);
    expect(failure).toBeInstanceOf(ConfigError);
    expect((failure as Error).message).toMatch(/do not tell which samples/);
  });
});
