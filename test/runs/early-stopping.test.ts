import { expect, it } from "vitest";
import { EarlyStopping, fixed, initialiseModel, lora, Trainer } from "safetape";
import { ConfigError, threeRate } from "safetape/engine";
import type { LoadedModel } from "safetape";
import { useEngine } from "../support/engine";
import { trainedValues } from "../support/tensors";
import { layerNames, tiny, tinyData } from "../support/tiny";

const engine = await useEngine();

const makeTrainer = (model: LoadedModel): Promise<Trainer> =>
  Trainer.create({
    model,
    adapter: lora({ rank: 2 }),
    data: tinyData(model),
    steps: 8,
    dropout: false,
    // Layer 0 freezes, and is merged into its weight, after the best step.
    policy: fixed([{ beforeStep: 4, tensors: layerNames(0) }]),
    mergeOnFreeze: true,
    schedule: threeRate(1e-3, 1e-2, 2e-3, 2),
  });

it("early stopping ends a run when its patience is used up, and goes back to the best state", async () => {
  using model = await initialiseModel(engine, tiny.bert());
  using trainer = await makeTrainer(model);
  const dev = [tinyData(model).next()];
  const stopping = new EarlyStopping(trainer, { patience: 2 });
  // Losses of evaluations after each step: the best is the second; equal is not better, and no number is worst.
  const losses = [3, 2, 2, NaN, 1];
  const rates: number[] = [];
  let best: { readonly values: unknown; readonly loss: number } | undefined;
  for await (const { step, learningRate } of trainer.steps()) {
    rates.push(learningRate);
    if (step === 2) best = { values: await trainedValues(trainer), loss: (await trainer.evaluate(dev)).loss };
    if (await stopping.add(losses[step - 1]!)) break;
  }
  expect(stopping.judged.map(({ step }) => step)).toEqual([1, 2, 3, 4]);
  expect(stopping.best).toEqual({ step: 2, value: 2 });
  expect(await trainedValues(trainer), "tensors after further steps").not.toEqual(best?.values);
  await stopping.restoreBest();
  expect(await trainedValues(trainer)).toEqual(best?.values);
  expect((await trainer.evaluate(dev)).loss).toBeCloseTo(best!.loss, 5);
  for (const [i, rate] of [1e-3, 5.5e-3, 1e-2, 1e-2 - 8e-3 / 6].entries()) expect(rates[i]).toBeCloseTo(rate, 9);

  const resumed = new EarlyStopping(trainer, { patience: 2 });
  resumed.resume(stopping.judged, stopping.bestTensors);
  expect([resumed.isDone, resumed.best]).toEqual([true, stopping.best]);
  expect(() => new EarlyStopping(trainer, { patience: 0 })).toThrow(ConfigError);
});
