import { describe, expect, it } from "vitest";
import { adalora, fixed, initialiseModel, lora, never, sora, Trainer } from "safetape";
import { ConfigError, MemoryBudgetError } from "safetape/engine";
import type { FreezePolicy, LoadedModel, StepReport, TrainerOptions } from "safetape";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { trainedValues } from "../support/tensors";
import { FAMILIES, layerNames, tiny, tinyData } from "../support/tiny";

const engine = await useEngine();

interface Result {
  readonly reports: readonly StepReport[];
  readonly weights: readonly number[];
  /** Most bytes that were live at the same time. */
  readonly peakBytes: number;
}

const FIT = { microBatch: "fit", recompute: "none" } as const;
const freezes = () => fixed([{ beforeStep: 2, tensors: layerNames(0) }]);

/** Scores every layer after every step, as SAFE does, and freezes layer 0 after two steps, whatever the scores are. */
const scoring = (scores: number[]): FreezePolicy => ({
  name: "scoring",
  kind: "freezing",
  usesImportance: true,
  start: () => ({
    isDue: ({ step }) => step > 0,
    async decide({ step, live, importance }) {
      scores.push(...(await importance()).values());
      return step === 2 ? (live.get(0) ?? []) : [];
    },
  }),
});

/** Five steps with dropout over batches of 5 rows, where the last batch of an epoch has 3; layer 0 freezes after two. */
async function train(model: LoadedModel, options: Partial<TrainerOptions> = {}): Promise<Result> {
  const adapter = lora({ rank: 2, dropout: 0.2, targets: "all-linear" });
  const settings = { model, adapter, policy: freezes(), data: tinyData(model, 5), steps: 5, seed: 3, ...options };
  engine.ledger.resetPeak();
  using trainer = await Trainer.create(settings);
  const reports: StepReport[] = [];
  for await (const report of trainer.steps()) {
    expect(report.bytes, "ledger against plan").toEqual(trainer.predictedBytes());
    reports.push(report);
  }
  return { reports, weights: await trainedValues(trainer), peakBytes: engine.ledger.peakBytes };
}

/** Adam divides by the size of a gradient, so the rounding of a tiny gradient can move a weight by more than itself. */
function expectSame(split: Result, whole: Result): void {
  split.reports.forEach(({ loss }, i) => expect(loss, `loss of step ${i + 1}`).toBeCloseTo(whole.reports[i]!.loss, 4));
  const worst = Math.max(...split.weights.map((value, i) => Math.abs(value - whole.weights[i]!)));
  expect(worst, "difference of final weights").toBeLessThan(2e-3);
}

describe.each(FAMILIES)("splitting batches of %s", (family) => {
  it("gives the results of the whole batch, with dropout, accumulation and a freeze, in less memory", async () => {
    using model = await initialiseModel(engine, tiny[family]());
    const whole = await train(model, { accumulate: 2 });
    const split = await train(model, { accumulate: 2, memory: { microBatch: 2 } });
    expectSame(split, whole);
    expect(split.reports[0]?.bytes.saved).toBeLessThan(0.5 * (whole.reports[0]?.bytes.saved ?? 0));
  });
});

describe('microBatch: "fit"', () => {
  it("gives few rows while all layers learn and more as layers freeze, within the budget, with the same results", async () => {
    using model = await initialiseModel(engine, tiny.bert());
    const policy = fixed([
      { beforeStep: 1, tensors: ["layer.0."] },
      { beforeStep: 3, tensors: ["layer.1."] },
    ]);
    const whole = await train(model, { policy });
    const rowByRow = await train(model, { policy, memory: { microBatch: 1 } });
    const budget = Math.round(rowByRow.peakBytes + 0.4 * (whole.peakBytes - rowByRow.peakBytes));
    const fitted = await train(model, { policy, memory: { budget, ...FIT } });
    const rows = fitted.reports.map(({ rowsAtOnce }) => rowsAtOnce);
    expect(rows[0], "rows at once with all layers live").toBeLessThan(5);
    expect(rows.at(-1), "rows at once at the end").toBeGreaterThan(rows[0] ?? 5);
    expect(fitted.peakBytes, "peak of the whole run").toBeLessThanOrEqual(budget);
    expectSame(fitted, whole);
  });

  it("recomputes less as layers freeze", async () => {
    using model = await initialiseModel(engine, tiny.gpt2());
    const whole = await train(model);
    const recomputing = await train(model, { memory: { recompute: "layers" } });
    const budget = Math.round((whole.peakBytes + recomputing.peakBytes) / 2);
    const fitted = await train(model, { memory: { budget: `${budget} B`, microBatch: "fit" } });
    const parts = fitted.reports.map(({ recomputed }) => recomputed);
    expect(parts[0], "recomputed parts with all layers live").toBeGreaterThan(0);
    expect(parts.at(-1), "recomputed parts at the end").toBeLessThan(parts[0] ?? 0);
    expect(fitted.reports.map(({ rowsAtOnce }) => rowsAtOnce)).toEqual([5, 5, 5, 5, 5]);
    expect(fitted.peakBytes).toBeLessThanOrEqual(budget);
    expectSame(fitted, whole);
  });

  it("leaves room for the scores of SAFE and for evaluation, with the scores of the whole batch", async () => {
    using model = await initialiseModel(engine, tiny.bert());
    const scoresOf = async (options: Partial<TrainerOptions>): Promise<Result & { scores: number[] }> => {
      const scores: number[] = [];
      const policy = scoring(scores);
      return { ...(await train(model, { policy, ...options })), scores };
    };
    const whole = await scoresOf({});
    const rowByRow = await scoresOf({ memory: { microBatch: 1 } });
    const budget = Math.round(rowByRow.peakBytes + 0.2 * (whole.peakBytes - rowByRow.peakBytes));
    const fitted = await scoresOf({ memory: { budget, ...FIT } });
    expect(fitted.reports[0]?.rowsAtOnce, "rows at once").toBeLessThan(5);
    expect(fitted.peakBytes).toBeLessThanOrEqual(budget);
    expectSame(fitted, whole);
    expect(fitted.scores).toHaveLength(whole.scores.length);
    fitted.scores.forEach((score, i) => expect(score, `score ${i}`).toBeCloseTo(whole.scores[i] ?? NaN, 4));
    const options = {
      model,
      adapter: lora(),
      data: tinyData(model, 5),
      memory: { budget, microBatch: "fit" as const },
    };
    using trainer = await Trainer.create(options);
    engine.ledger.resetPeak();
    const { labels, loss } = await trainer.evaluate([options.data.next(), options.data.next()]);
    expect(engine.ledger.peakBytes, "peak of an evaluation").toBeLessThanOrEqual(budget);
    expect(labels).toHaveLength(8);
    expect(loss).toBeGreaterThan(0);
  });
});

it.each([adalora({ initialRank: 3, targetRank: 2 }), sora({ rank: 3 })])(
  "the penalty of $kind counts once in a step, however the batch is split",
  async (adapter) => {
    using model = await initialiseModel(engine, tiny.bert());
    const options = { adapter, policy: never(), dropout: false, steps: 2 };
    const whole = await train(model, options);
    const split = await train(model, { ...options, memory: { microBatch: 1 } });
    expectSame(split, whole);
  },
);

describe("a trainer refuses", () => {
  it("a budget below the bytes of a single row, naming those bytes, with memory as it was", async () => {
    using model = await initialiseModel(engine, tiny.bert());
    const before = engine.ledger.liveBytes;
    const { neededBytes } = await failure(
      train(model, { memory: { microBatch: "fit", budget: 1000 } }),
      MemoryBudgetError,
    );
    expect(engine.ledger.liveBytes).toBe(before);
    expect((await train(model, { memory: { microBatch: "fit", budget: neededBytes } })).peakBytes).toBeLessThanOrEqual(
      neededBytes,
    );
  });

  it.each([
    [{ microBatch: "fit" as const }, /no memory\.budget/],
    [{ microBatch: 0 }, /microBatch is 0/],
    [{ budget: "8 bits" }, /memory\.budget is 8 bits/],
    [{ budget: -1 }, /memory\.budget is -1/],
    [{ microBatch: 1.5 }, /microBatch is 1.5/],
  ])("%o", async (options, message) => {
    using model = await initialiseModel(engine, tiny.bert());
    const error = await failure(train(model, { memory: options }), ConfigError);
    expect(error.message).toMatch(message);
  });
});
