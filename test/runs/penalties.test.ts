import { expect, it } from "vitest";
import { adalora, initialiseModel, lora, sora, Trainer } from "safetape";
import type { StepReport } from "safetape";
import { useEngine } from "../support/engine";
import { tiny, tinyData } from "../support/tiny";

const engine = await useEngine();

it.each([
  ["AdaLoRA's orthogonality", adalora({ initialRank: 4, targetRank: 2 })],
  ["SoRA's gates", sora({ rank: 4 })],
])("evaluation reports the task's loss, without the penalty on %s, which training has", async (_, adapter) => {
  using model = await initialiseModel(engine, tiny.bert());
  const batch = tinyData(model).next();
  const options = { model, data: tinyData(model), steps: 8, dropout: false } as const;
  // A LoRA that has learned nothing changes nothing.
  using plain = await Trainer.create({ ...options, adapter: lora({ rank: 2 }) });
  const { loss } = await plain.evaluate([batch]);
  plain.dispose();
  using trainer = await Trainer.create({ ...options, adapter });
  expect((await trainer.evaluate([batch])).loss).toBeCloseTo(loss, 5);
  const first = await trainer.steps().next();
  expect((first.value as StepReport).loss).toBeGreaterThan(loss + 0.01); // steps end with nothing
});
