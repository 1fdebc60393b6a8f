import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DeviceError, Engine, initialiseModel, lora, memoryDirectory, safe, Trainer } from "safetape";
import type { LoadedModel, TrainerOptions } from "safetape";
import type { Device } from "../../src/gpu/device";
import { testDevice } from "../support/device";
import { Losses } from "../support/losses";
import { tiny, tinyData } from "../support/tiny";

let engine: Engine;
let model: LoadedModel;
let losses: Losses;
beforeAll(async () => {
  const open = async (): Promise<Device> => {
    const device = await testDevice();
    // The engine takes it after this.
    setTimeout(() => losses.follow(), 0);
    return device;
  };
  engine = new Engine(await testDevice(), open);
  losses = new Losses(engine);
  model = await initialiseModel(engine, tiny.bert({ num_hidden_layers: 2 }));
});
afterAll(() => {
  model.dispose();
  expect(engine.ledger.liveBytes, "bytes left in the ledger").toBe(0);
  engine.dispose();
});

const STEPS = 6;
/** Moments of the losses, as shares of a run's calls; every loss makes all pipelines anew. */
const SHARES = [0.01, 0.35, 0.6, 0.93];

function make(more: Partial<TrainerOptions> = {}): Promise<Trainer> {
  const policy = safe({ every: 1, maxWarmup: 2, targetFreezeFraction: 0.6 });
  const own = { model, adapter: lora({ rank: 2 }), data: tinyData(model, 3, 8), policy, steps: STEPS, seed: 3 };
  return Trainer.create({ ...own, recover: { every: 2 }, ...more });
}

/** Steps, with an evaluation in between, and everything that they end with. */
async function run(trainer: Trainer) {
  const seen: number[] = [];
  const evaluations: unknown[] = [];
  for await (const { step } of trainer.steps()) {
    seen.push(step);
    if (step === 3) evaluations.push(await trainer.evaluate(tinyData(model, 4).restOfEpoch()));
  }
  const { losses, freezes } = trainer.history;
  const weights = [...(await trainer.snapshot())].map(([name, { data }]) => [name, [...data]]);
  return { seen, evaluations, losses: [...losses], freezes, weights };
}

/** Alone on its device, since freezes tell the bytes of all that is there. */
async function undisturbed() {
  using trainer = await make();
  const before = losses.calls;
  const ended = await run(trainer);
  return { ...ended, calls: losses.calls - before };
}

describe("a run whose device is lost", () => {
  it("ends with the very bits of an undisturbed one, whenever that is, and tells every step once", async () => {
    const { calls, ...expected } = await undisturbed();
    expect(expected.freezes.length).toBeGreaterThan(0);
    for (const share of SHARES) {
      using trainer = await make();
      const { device } = engine;
      losses.arm(Math.ceil(share * calls));
      expect(await run(trainer), `after ${losses.after.at(-1)}`).toEqual(expected);
      expect(engine.device, "another device").not.toBe(device);
    }
    expect(losses.after).toHaveLength(SHARES.length);
  });

  it("stops after three losses without a step, with its state saved, and can be gone on with", async () => {
    const expected = await undisturbed();
    const checkpoints = memoryDirectory("run");
    {
      using trainer = await make({ checkpoints, checkpointEvery: 2 });
      const failed = (async () => {
        for await (const { step } of trainer.steps()) {
          if (step !== 4) continue;
          const reopen = engine.reopen.bind(engine);
          engine.reopen = async (lost) => {
            await reopen(lost);
            engine.device.handle.destroy();
          };
          engine.device.handle.destroy();
        }
      })();
      await expect(failed).rejects.toThrow(DeviceError);
      await expect(failed).rejects.toThrow(/lost 3 times in a row .*\n.*checkpoint-00000002.safetensors in run/);
      const elsewhere = memoryDirectory("elsewhere");
      expect(await trainer.saveCheckpoint(elsewhere)).toBe("checkpoint-00000002.safetensors");
      delete (engine as Partial<Engine>).reopen;
    }
    await engine.reopen(engine.device);
    await model.reload();
    using resumed = await make({ checkpoints, resume: "auto", checkpointEvery: 0 });
    const { losses: told, freezes, weights } = await run(resumed);
    expect({ told, freezes, weights }).toEqual({
      told: expected.losses,
      freezes: expected.freezes,
      weights: expected.weights,
    });
  });

  it("fails at once where it is told not to recover", async () => {
    using trainer = await make({ recover: false });
    const { device } = engine;
    const failed = (async () => {
      for await (const { step } of trainer.steps()) if (step === 2) device.handle.destroy();
    })();
    await expect(failed).rejects.toThrow(/The device was lost/);
    expect(engine.device).toBe(device);
    await engine.reopen(device);
    await model.reload();
  });
});
