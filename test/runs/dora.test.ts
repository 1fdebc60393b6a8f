import { describe, expect, it } from "vitest";
import { dora, initialiseModel, lora, Trainer } from "safetape";
import type { Adapter, TrainerOptions } from "safetape";
import { useEngine } from "../support/engine";
import { layerCount, tiny, tinyData } from "../support/tiny";
import type { Family } from "../support/tiny";

const engine = await useEngine();

it.each([
  ["bert", "nf4"],
  ["gpt2", "f16"],
] as const)("DoRA begins as %s is, by the norms of its weights in %s", async (family, weights) => {
  using model = await initialiseModel(engine, tiny[family](layerCount(1)), { weights });
  const data = tinyData(model);
  const batch = data.next();
  const lossAtStart = async (adapter: Adapter): Promise<number> => {
    using trainer = await Trainer.create({ model, adapter, data, steps: 1 });
    return (await trainer.evaluate([batch])).loss;
  };
  const plain = await lossAtStart(lora({ rank: 2, targets: "all-linear" }));
  const loss = await lossAtStart(dora({ rank: 2, targets: "all-linear" }));
  expect(Math.abs(loss - plain) / plain).toBeLessThan(1e-6);
});

describe.each<Family>(["albert", "deberta-v2"])("DoRA on %s, which uses projections several times", (family) => {
  it("gives the same bits with recomputed layers", async () => {
    const losses = async (options: Partial<TrainerOptions>): Promise<readonly number[]> => {
      using model = await initialiseModel(engine, tiny[family]({ ...layerCount(2), initializer_range: 0.2 }));
      const optimizer = { learningRate: 1e-2 };
      const adapter = dora({ rank: 2, dropout: 0.1 });
      using trainer = await Trainer.create({ model, adapter, data: tinyData(model), steps: 4, optimizer, ...options });
      for await (const { bytes } of trainer.steps()) expect(bytes).toEqual(trainer.predictedBytes());
      return [...trainer.history.losses];
    };
    expect(await losses({ memory: { recompute: "layers" } })).toEqual(await losses({}));
  });
});
