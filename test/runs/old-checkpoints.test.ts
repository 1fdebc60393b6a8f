import { describe, expect, it } from "vitest";
import * as library from "safetape";
import type { Trainer, TrainerOptions } from "safetape";
import * as core from "safetape/core";
import { RUNS, SAVED_AFTER, STEPS, trainerOf } from "../fixtures/checkpoints/runs.mjs";
import { useEngine } from "../support/engine";

const engine = await useEngine();
const safetape = { ...core, ...library };

async function finish(name: string, further: Partial<TrainerOptions> = {}) {
  // The script that made the fixtures is plain JavaScript.
  const trainer = (await trainerOf(safetape, engine, name, further)) as Trainer;
  const { model } = trainer.options;
  const { losses, freezes } = await trainer.train();
  const file = safetape.memoryDirectory("adapter");
  await safetape.saveAdapter(file, trainer);
  // SAFE's record has a history.
  const { history = [] } = trainer.policyRecord() as { history?: readonly { readonly frozen: readonly number[] }[] };
  trainer.dispose();
  model.dispose();
  return {
    resumedAfter: trainer.resumed?.step,
    losses,
    freezes: freezes.map(({ step, tensors, layers }) => ({ step, tensors, layers })),
    frozenByInterval: history.map(({ frozen }) => frozen),
    // JSON.parse is typed any.
    adapterConfig: JSON.parse(new TextDecoder().decode(await file.read("adapter_config.json"))) as unknown,
  };
}

describe("a checkpoint that an earlier version wrote", () => {
  it.each(Object.keys(RUNS))("is resumed: %s", async (name) => {
    const expected = await finish(name);
    const resume = await safetape.openDirectory(`test/fixtures/checkpoints/${name}`);
    const actual = await finish(name, { checkpoints: { resume }, warn: () => undefined });
    expect(actual.resumedAfter).toBe(SAVED_AFTER);
    expect(actual.losses).toHaveLength(STEPS);
    // Another version of the driver may round otherwise.
    actual.losses.forEach((loss, step) => expect(loss).toBeCloseTo(expected.losses[step]!, 4));
    expect({ ...actual, losses: [], resumedAfter: 0 }).toEqual({ ...expected, losses: [], resumedAfter: 0 });
  });

  it("freezes and prunes on both sides of the stop", async () => {
    const { freezes } = await finish("safe");
    expect(freezes.map(({ step }) => step > SAVED_AFTER)).toEqual([false, true]);
  });
});
