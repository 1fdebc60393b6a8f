import { expect } from "vitest";
import { Trainer } from "safetape";
import { MemoryBudgetError } from "safetape/engine";
import type { TrainerOptions } from "safetape";
import { failure } from "./failure";
import { tinyData } from "./tiny";

/** Runs with the least budget that is accepted, and evaluates; nothing may ever take more. The data are `tinyData`. */
export async function expectToKeepBudget(options: Omit<TrainerOptions, "data">): Promise<void> {
  const { model } = options;
  const { engine } = model;
  // Two shapes of batches where one does not decide alone what is largest.
  const data = () => tinyData(model, 4, options.memory?.microBatch === undefined ? 8 : 16);
  const create = (budget: number) =>
    Trainer.create({ ...options, data: data(), memory: { ...options.memory, budget } });
  const { neededBytes } = await failure(create(1), MemoryBudgetError);
  expect((await failure(create(neededBytes - 1), MemoryBudgetError)).neededBytes).toBe(neededBytes);

  engine.ledger.resetPeak();
  using trainer = await create(neededBytes);
  expect(engine.ledger.peakBytes, "peak of the start").toBeLessThanOrEqual(neededBytes);
  const batches = data();
  for await (const { step, bytes, planned } of trainer.steps()) {
    expect(bytes, `ledger against plan after step ${step}`).toEqual(planned);
    expect(engine.ledger.peakBytes, `peak until step ${step}`).toBeLessThanOrEqual(neededBytes);
    if (step !== 2) continue;
    await trainer.evaluate([batches.next(), batches.next()]);
    expect(engine.ledger.peakBytes, "peak of an evaluation").toBeLessThanOrEqual(neededBytes);
  }
  await trainer.snapshot();
  expect(engine.ledger.peakBytes, "peak of it all").toBeLessThanOrEqual(neededBytes);
}
