import { describe, expect, it } from "vitest";
import { fixed, initialiseModel, lora, Trainer } from "safetape";
import { MemoryBudgetError, sumBytes } from "safetape/engine";
import type { LoadedModel, Recompute, StepReport } from "safetape";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { trainedValues } from "../support/tensors";
import { FAMILIES, layerNames, tiny, tinyData } from "../support/tiny";
import { some } from "../support/long";

const engine = await useEngine();

interface Result {
  readonly reports: readonly StepReport[];
  readonly weights: readonly number[];
  readonly savedBytes: number;
  readonly peakBytes: number;
}

/** Four steps with dropout; the adapter of layer 0 freezes after two. */
async function train(model: LoadedModel, recompute: Recompute): Promise<Result> {
  const policy = fixed([{ beforeStep: 2, tensors: layerNames(0) }]);
  const adapter = lora({ rank: 2, dropout: 0.2, targets: "all-linear" });
  const options = {
    model,
    adapter,
    policy,
    memory: { recompute },
    data: tinyData(model),
    steps: 4,
    accumulate: 2,
    seed: 3,
  };
  using trainer = await Trainer.create(options);
  const peakBytes = engine.ledger.liveBytes;
  const reports: StepReport[] = [];
  for await (const report of trainer.steps()) {
    expect(report.bytes, "ledger against plan").toEqual(trainer.predictedBytes());
    reports.push(report);
  }
  const weights = await trainedValues(trainer);
  return { reports, weights, savedBytes: reports[0]!.bytes.saved, peakBytes };
}

describe.each(some(FAMILIES, 2))("recomputing %s", (family) => {
  it("changes no bit, with dropout, accumulation and a freeze, and keeps fewer bytes", async () => {
    using model = await initialiseModel(engine, tiny[family]());
    const plain = await train(model, "none");
    const mlp = await train(model, "mlp");
    const layers = await train(model, "layers");
    const losses = ({ reports }: Result) => reports.map(({ loss }) => loss);
    for (const [name, recomputed] of Object.entries({ mlp, layers })) {
      expect(losses(recomputed), name).toEqual(losses(plain));
      expect(recomputed.weights, name).toEqual(plain.weights);
      expect(recomputed.reports[0]!.flops, name).toBeGreaterThan(plain.reports[0]!.flops);
    }
    expect(mlp.savedBytes, "kept where feed-forward parts are recomputed").toBeLessThan(plain.savedBytes);
    expect(layers.savedBytes, "kept where whole layers are recomputed").toBeLessThan(mlp.savedBytes);
  });

  it("fits into a number of bytes, and recomputes no more than that takes", async () => {
    using model = await initialiseModel(engine, tiny[family]());
    const plain = await train(model, "none");
    const layers = await train(model, "layers");
    const middle = Math.round((plain.peakBytes + layers.peakBytes) / 2);
    const fitted = await train(model, middle);
    expect(fitted.peakBytes).toBeLessThanOrEqual(middle);
    expect(fitted.peakBytes).toBeGreaterThan(layers.peakBytes);
    expect(fitted.weights).toEqual(plain.weights);
    expect((await train(model, plain.peakBytes)).savedBytes, "nothing is recomputed where everything fits").toBe(
      plain.savedBytes,
    );
  });
});

it("refuses a budget that recomputing all layers does not meet, and names the smallest that is met", async () => {
  using model = await initialiseModel(engine, tiny.bert());
  const before = engine.ledger.liveBytes;
  const error = await failure(train(model, 1000), MemoryBudgetError);
  expect(engine.ledger.liveBytes, "bytes after the refusal").toBe(before);
  const fitted = await train(model, error.neededBytes);
  expect(sumBytes(fitted.reports[0]!.bytes)).toBeLessThanOrEqual(error.neededBytes);
});
