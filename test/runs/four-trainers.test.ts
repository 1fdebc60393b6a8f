import { expect, it } from "vitest";
import { adalora, bitfit, houlsby, initialiseModel, lora, safe, Trainer } from "safetape";
import type { TrainerOptions } from "safetape";
import { useEngine } from "../support/engine";
import { tiny, tinyData } from "../support/tiny";

const STEPS = 4;

const engine = await useEngine();

it("four trainers at the same time on one model give the bits that each of them gives alone", async () => {
  using model = await initialiseModel(engine, tiny.bert({ num_hidden_layers: 2 }));
  const kinds: (() => Omit<TrainerOptions, "model" | "data">)[] = [
    () => ({
      adapter: lora({ rank: 2, dropout: 0.1 }),
      policy: safe({ every: 1, targetFreezeFraction: 0.5, tauT: 1 }),
    }),
    () => ({ adapter: adalora({ initialRank: 3, targetRank: 2 }), seed: 1 }),
    () => ({ adapter: houlsby({ size: 4 }), memory: { microBatch: 2 }, seed: 2 }),
    () => ({ adapter: bitfit(), seed: 3 }),
  ];
  const makeTrainer = (options: (typeof kinds)[number]): Promise<Trainer> =>
    Trainer.create({ model, data: tinyData(model, 4), steps: STEPS, ...options() });
  const train = async (trainer: Trainer) => {
    const losses: number[] = [];
    for await (const { step, loss } of trainer.steps()) {
      losses.push(loss);
      if (step === 2) losses.push((await trainer.evaluate([tinyData(model, 2, 12).next()])).loss);
    }
    return { losses, tensors: await trainer.state.snapshot() };
  };
  const before = engine.ledger.live;
  const alone = [];
  for (const options of kinds) {
    using trainer = await makeTrainer(options);
    alone.push(await train(trainer));
  }
  const together = await Promise.all(kinds.map(makeTrainer));
  expect(await Promise.all(together.map(train))).toEqual(alone);
  for (const trainer of together) trainer.dispose();
  expect(engine.ledger.live).toEqual(before);
});
