import { afterAll, describe, expect, it } from "vitest";
import { initialiseModel, lora, loraPrune, safe, Trainer } from "safetape";
import { DeviceError } from "safetape/engine";
import { memoryDirectory } from "safetape/data";
import type { Engine, TrainerOptions } from "safetape";
import { testDevice } from "../support/device";
import { DeviceLosses } from "../support/device-losses";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { tiny, tinyData } from "../support/tiny";

const engine = await useEngine({
  reopen: async () => {
    const device = await testDevice();
    // The engine takes the device after this.
    setTimeout(() => deviceLosses.watchDevice(), 0);
    return device;
  },
});
const deviceLosses = new DeviceLosses(engine);
const model = await initialiseModel(engine, tiny.bert({ num_hidden_layers: 2 }));
afterAll(() => model.dispose());

const STEPS = 6;
/** When devices are lost, as shares of a run's calls. Every loss costs the compilation of all pipelines. */
const SHARES = [0.01, 0.35, 0.6, 0.93];

function makeTrainer(options: Partial<TrainerOptions> = {}): Promise<Trainer> {
  const policy = safe({ every: 1, maxWarmup: 2, targetFreezeFraction: 0.6 });
  const data = tinyData(model, 3, 8);
  const settings = { model, adapter: lora({ rank: 2 }), data, policy, steps: STEPS, seed: 3, recover: { every: 2 } };
  return Trainer.create({ ...settings, ...options });
}

/** Runs all steps, with an evaluation in between, and gives all results. */
async function run(trainer: Trainer) {
  const steps: number[] = [];
  const evaluations: unknown[] = [];
  for await (const { step } of trainer.steps()) {
    steps.push(step);
    if (step === 3) evaluations.push(await trainer.evaluate(tinyData(model, 4).restOfEpoch()));
  }
  const { losses, freezes } = trainer.history;
  const weights = [...(await trainer.snapshot())].map(([name, { data }]) => [name, [...data]]);
  return { steps, evaluations, losses: [...losses], freezes, weights };
}

/** The results and the number of calls of a run without a loss. Freezes report all live bytes, so no other trainer may exist. */
async function undisturbed() {
  using trainer = await makeTrainer();
  const before = deviceLosses.calls;
  const results = await run(trainer);
  return { ...results, calls: deviceLosses.calls - before };
}

describe("a run whose device is lost", () => {
  it("ends with the bits of an undisturbed run, and reports every step once, whenever the device is lost", async () => {
    const { calls, ...expected } = await undisturbed();
    expect(expected.freezes.length).toBeGreaterThan(0);
    for (const share of SHARES) {
      using trainer = await makeTrainer();
      const { device } = engine;
      deviceLosses.destroyAfter(Math.ceil(share * calls));
      expect(await run(trainer), `after ${deviceLosses.after.at(-1)}`).toEqual(expected);
      expect(engine.device, "another device").not.toBe(device);
    }
    expect(deviceLosses.after).toHaveLength(SHARES.length);
  });

  it("ends with the same bits where heads were cut out before", async () => {
    const policy = loraPrune({ every: 1, ratio: 0.9 });
    const outcomes: { cut: number | undefined; losses: number[] }[] = [];
    for (const isLost of [false, true]) {
      using trainer = await makeTrainer({ policy });
      for await (const { step } of trainer.steps()) if (isLost && step === 5) engine.device.handle.destroy();
      const { losses } = trainer.history;
      outcomes.push({ cut: trainer.compaction?.counts.heads, losses: [...losses] });
    }
    expect(outcomes[0]?.cut).toBe(1);
    expect(outcomes[1]).toEqual(outcomes[0]);
  });

  it("stops after three losses without a step in between, and can be resumed from its checkpoint", async () => {
    const expected = await undisturbed();
    const directory = memoryDirectory("run");
    {
      using trainer = await makeTrainer({ checkpoints: { directory, every: 2 } });
      const running = (async () => {
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
      const error = await failure(running, DeviceError);
      expect(error.message).toMatch(/lost 3 times in a row .*\n.*checkpoint-00000002.safetensors in run/);
      const elsewhere = memoryDirectory("elsewhere");
      expect(await trainer.saveCheckpoint(elsewhere)).toBe("checkpoint-00000002.safetensors");
      // Removes the property that hides the method.
      delete (engine as Partial<Engine>).reopen;
    }
    await engine.reopen(engine.device);
    await model.reload();
    using resumed = await makeTrainer({ checkpoints: { directory, resume: true, every: 0 } });
    const { losses, freezes, weights } = await run(resumed);
    expect(losses).toEqual(expected.losses);
    expect(freezes).toEqual(expected.freezes);
    expect(weights).toEqual(expected.weights);
  });

  it("fails without another device where `recover` is false", async () => {
    using trainer = await makeTrainer({ recover: false });
    const { device } = engine;
    const running = (async () => {
      for await (const { step } of trainer.steps()) if (step === 2) device.handle.destroy();
    })();
    expect((await failure(running)).message).toMatch(/The device was lost/);
    expect(engine.device).toBe(device);
    await engine.reopen(device);
    await model.reload();
  });
});
