import { describe, expect, it } from "vitest";
import { fixed, initialiseModel, lora, MemoryBudgetError, sumBytes, Trainer } from "safetape";
import type { LoadedModel, Recompute, StepReport } from "safetape";
import { useEngine } from "../support/engine";
import { FAMILIES, tiny, tinyData } from "../support/tiny";

const engine = await useEngine();

interface Run {
  readonly reports: readonly StepReport[];
  readonly weights: readonly number[];
  readonly saved: number;
  readonly peak: number;
}

/** Four steps with dropout; the adapter of layer 0 freezes after two. */
async function run(model: LoadedModel, recompute: Recompute): Promise<Run> {
  const policy = fixed([{ beforeStep: 2, tensors: ["layer.0.", "layers.0.", "h.0."] }]);
  const adapter = lora({ rank: 2, dropout: 0.2, targets: "all-linear" });
  const options = { model, adapter, policy, recompute, data: tinyData(model), steps: 4, accumulate: 2, seed: 3 };
  using trainer = await Trainer.create(options);
  const peak = engine.ledger.liveBytes;
  const reports: StepReport[] = [];
  for await (const report of trainer.steps()) {
    expect(report.bytes, "ledger against plan").toEqual(trainer.predictedBytes());
    reports.push(report);
  }
  const weights = [...(await trainer.state.snapshot()).values()].flatMap(({ data }) => [...data]);
  return { reports, weights, saved: reports[0]?.bytes.saved ?? 0, peak };
}

describe.each(FAMILIES)("recomputing %s", (family) => {
  it("gives the very bits, with dropout, accumulation and a freeze, and keeps less", async () => {
    using model = await initialiseModel(engine, tiny[family]());
    const plain = await run(model, "none");
    const mlp = await run(model, "mlp");
    const layers = await run(model, "layers");
    for (const [name, other] of Object.entries({ mlp, layers })) {
      expect(
        other.reports.map(({ loss }) => loss),
        name,
      ).toEqual(plain.reports.map(({ loss }) => loss));
      expect(other.weights, name).toEqual(plain.weights);
      expect(other.reports[0]?.flops, name).toBeGreaterThan(plain.reports[0]?.flops ?? Infinity);
    }
    expect(mlp.saved, "kept with the feed-forwards run again").toBeLessThan(plain.saved);
    expect(layers.saved, "kept with whole layers run again").toBeLessThan(mlp.saved);
  });

  it("fits a number of bytes, with no more than that needs", async () => {
    using model = await initialiseModel(engine, tiny[family]());
    const plain = await run(model, "none");
    const layers = await run(model, "layers");
    const middle = Math.round((plain.peak + layers.peak) / 2);
    const fitted = await run(model, middle);
    expect(fitted.peak).toBeLessThanOrEqual(middle);
    expect(fitted.peak).toBeGreaterThan(layers.peak);
    expect(fitted.weights).toEqual(plain.weights);
    expect((await run(model, plain.peak)).saved, "nothing is run again where everything fits").toBe(plain.saved);
  });
});

it("refuses a budget below what whole layers need, and names the least", async () => {
  using model = await initialiseModel(engine, tiny.bert());
  const before = engine.ledger.liveBytes;
  const failure = run(model, 1000).catch((error: unknown) => error);
  const error = (await failure) as MemoryBudgetError;
  expect(error).toBeInstanceOf(MemoryBudgetError);
  expect(engine.ledger.liveBytes, "bytes after the refusal").toBe(before);
  const fitted = await run(model, error.neededBytes);
  expect(sumBytes(fitted.reports[0]?.bytes as never)).toBeLessThanOrEqual(error.neededBytes);
});
