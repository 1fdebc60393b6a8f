import { describe, expect, it } from "vitest";
import { adalora, ConfigError, fixed, initialiseModel, lora, MemoryBudgetError, never, sora, Trainer } from "safetape";
import type { FreezePolicy, LoadedModel, StepReport, TrainerOptions } from "safetape";
import { useEngine } from "../support/engine";
import { FAMILIES, tiny, tinyData } from "../support/tiny";

const engine = await useEngine();

interface Run {
  readonly reports: readonly StepReport[];
  readonly weights: readonly number[];
  /** Most bytes that were live at once. */
  readonly peak: number;
}

const FIT = { microBatch: "fit", recompute: "none" } as const;
const FREEZES = fixed([{ beforeStep: 2, tensors: ["layer.0.", "layers.0.", "h.0."] }]);

/** Scores every layer after every step, as SAFE does, and freezes layer 0 after two, whatever the scores are. */
const probing = (scores: number[]): FreezePolicy => ({
  kind: "freezing",
  name: "probing",
  start: () => ({
    isDue: ({ step }) => step > 0,
    async decide({ step, live, importance }) {
      scores.push(...(await importance()).values());
      return step === 2 ? (live.get(0) ?? []) : [];
    },
  }),
});

/** Five steps with dropout over batches of 5 rows, the last one of an epoch with 3; layer 0 freezes after two. */
async function run(model: LoadedModel, options: Partial<TrainerOptions> = {}): Promise<Run> {
  const adapter = lora({ rank: 2, dropout: 0.2, targets: "all-linear" });
  const settings = { model, adapter, policy: FREEZES, data: tinyData(model, 5), steps: 5, seed: 3, ...options };
  engine.ledger.resetPeak();
  using trainer = await Trainer.create(settings);
  const reports: StepReport[] = [];
  for await (const report of trainer.steps()) {
    expect(report.bytes, "ledger against plan").toEqual(trainer.predictedBytes());
    reports.push(report);
  }
  const weights = [...(await trainer.state.snapshot()).values()].flatMap(({ data }) => [...data]);
  return { reports, weights, peak: engine.ledger.peakBytes };
}

/** Adam divides by the gradient's size, so that rounding of a tiny gradient can move a weight by more than itself. */
function expectSame(other: Run, whole: Run): void {
  other.reports.forEach(({ loss }, i) => expect(loss, `loss of step ${i + 1}`).toBeCloseTo(whole.reports[i]!.loss, 4));
  const worst = Math.max(...other.weights.map((value, i) => Math.abs(value - whole.weights[i]!)));
  expect(worst, "difference of final weights").toBeLessThan(2e-3);
}

describe.each(FAMILIES)("splitting batches of %s", (family) => {
  it("gives what the whole batch gives, with dropout, accumulation and a freeze, in less memory", async () => {
    using model = await initialiseModel(engine, tiny[family]());
    const whole = await run(model, { accumulate: 2 });
    const split = await run(model, { accumulate: 2, microBatch: 2 });
    expectSame(split, whole);
    expect(split.reports[0]?.bytes.saved).toBeLessThan(0.5 * (whole.reports[0]?.bytes.saved ?? 0));
  });
});

describe("a micro-batch that fits", () => {
  it("is small while everything learns and grows as layers freeze, within the budget, to the same losses", async () => {
    using model = await initialiseModel(engine, tiny.bert());
    const policy = fixed([
      { beforeStep: 1, tensors: ["layer.0."] },
      { beforeStep: 3, tensors: ["layer.1."] },
    ]);
    const whole = await run(model, { policy });
    const row = await run(model, { policy, microBatch: 1 });
    const memoryBudget = Math.round(row.peak + 0.4 * (whole.peak - row.peak));
    const fitted = await run(model, { policy, memoryBudget, microBatch: "fit", recompute: "none" });
    const rows = fitted.reports.map(({ rowsAtOnce }) => rowsAtOnce);
    expect(rows[0], "rows at once with all layers live").toBeLessThan(5);
    expect(rows.at(-1), "rows at once at the end").toBeGreaterThan(rows[0] ?? 5);
    expect(fitted.peak, "peak of the whole run").toBeLessThanOrEqual(memoryBudget);
    expectSame(fitted, whole);
  });

  it("drops recomputation as layers freeze", async () => {
    using model = await initialiseModel(engine, tiny.gpt2());
    const whole = await run(model);
    const again = await run(model, { recompute: "layers" });
    const memoryBudget = Math.round((whole.peak + again.peak) / 2);
    const fitted = await run(model, { memoryBudget: `${memoryBudget} B`, microBatch: "fit" });
    const parts = fitted.reports.map(({ recomputed }) => recomputed);
    expect(parts[0], "parts run again with all layers live").toBeGreaterThan(0);
    expect(parts.at(-1), "parts run again at the end").toBeLessThan(parts[0] ?? 0);
    expect(fitted.reports.map(({ rowsAtOnce }) => rowsAtOnce)).toEqual([5, 5, 5, 5, 5]);
    expect(fitted.peak).toBeLessThanOrEqual(memoryBudget);
    expectSame(fitted, whole);
  });

  it("leaves room for SAFE's probes and for evaluation, with the scores of the whole batch", async () => {
    using model = await initialiseModel(engine, tiny.bert());
    const scoresOf = async (options: Partial<TrainerOptions>): Promise<Run & { scores: number[] }> => {
      const scores: number[] = [];
      const policy = probing(scores);
      return { ...(await run(model, { policy, ...options })), scores };
    };
    const whole = await scoresOf({});
    const row = await scoresOf({ microBatch: 1 });
    const memoryBudget = Math.round(row.peak + 0.2 * (whole.peak - row.peak));
    const fitted = await scoresOf({ memoryBudget, ...FIT });
    expect(fitted.reports[0]?.rowsAtOnce, "rows at once").toBeLessThan(5);
    expect(fitted.peak).toBeLessThanOrEqual(memoryBudget);
    expectSame(fitted, whole);
    expect(fitted.scores).toHaveLength(whole.scores.length);
    fitted.scores.forEach((score, i) => expect(score, `score ${i}`).toBeCloseTo(whole.scores[i] ?? NaN, 4));
    const options = { model, adapter: lora(), data: tinyData(model, 5), memoryBudget, microBatch: "fit" as const };
    using trainer = await Trainer.create(options);
    engine.ledger.resetPeak();
    const { labels, loss } = await trainer.evaluate([options.data.next(), options.data.next()]);
    expect(engine.ledger.peakBytes, "peak of an evaluation").toBeLessThanOrEqual(memoryBudget);
    expect(labels).toHaveLength(8);
    expect(loss).toBeGreaterThan(0);
  });
});

it.each([adalora({ initialRank: 3, targetRank: 2 }), sora({ rank: 3 })])(
  "counts the penalty of $kind once a step, however it is split",
  async (adapter) => {
    using model = await initialiseModel(engine, tiny.bert());
    const options = { adapter, policy: never(), dropout: false, steps: 2 };
    const whole = await run(model, options);
    const split = await run(model, { ...options, microBatch: 1 });
    expectSame(split, whole);
  },
);

describe("refuses", () => {
  it("a budget below a single row, naming the least, with memory as it was", async () => {
    using model = await initialiseModel(engine, tiny.bert());
    const before = engine.ledger.liveBytes;
    const failure = await run(model, { microBatch: "fit", memoryBudget: 1000 }).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(MemoryBudgetError);
    expect(engine.ledger.liveBytes).toBe(before);
    const { neededBytes } = failure as MemoryBudgetError;
    expect((await run(model, { microBatch: "fit", memoryBudget: neededBytes })).peak).toBeLessThanOrEqual(neededBytes);
  });

  it.each([
    [{ microBatch: "fit" as const }, /no memoryBudget/],
    [{ microBatch: 0 }, /microBatch is 0/],
    [{ memoryBudget: "8 bits" }, /memoryBudget is 8 bits/],
    [{ memoryBudget: -1 }, /memoryBudget is -1/],
    [{ microBatch: 1.5 }, /microBatch is 1.5/],
  ])("%o", async (options, message) => {
    using model = await initialiseModel(engine, tiny.bert());
    const failure = await run(model, options).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(ConfigError);
    expect((failure as Error).message).toMatch(message);
  });
});
