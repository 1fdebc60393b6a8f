import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  adalora,
  aflora,
  afloraFreezing,
  ConfigError,
  Engine,
  initialiseModel,
  lora,
  NotFiniteError,
  Trainer,
} from "safetape";
import type { Batch, LoadedModel, TrainerOptions } from "safetape";
import { momentNames } from "../../src/train/tensors/names";
import { testDevice } from "../support/device";
import { tiny, tinyData } from "../support/tiny";

let engine: Engine;
let model: LoadedModel;
beforeAll(async () => {
  engine = new Engine(await testDevice());
  model = await initialiseModel(engine, tiny.bert({ num_hidden_layers: 1 }));
});
afterAll(() => {
  model.dispose();
  expect(engine.ledger.liveBytes, "bytes left in the ledger").toBe(0);
  engine.dispose();
});

/** Full batches of one shape. */
function batches(count: number): Batch[] {
  const data = tinyData(model, 4);
  return Array.from({ length: count }, () => data.next());
}

/** A run of four steps over given batches. */
async function run(given: readonly Batch[], more: Partial<TrainerOptions> = {}) {
  using trainer = await Trainer.create({ model, adapter: lora({ rank: 2 }), ...listed(given), ...more });
  const { losses, skipped } = await trainer.train();
  return { losses, skipped, state: await everything(trainer) };
}

function listed(given: readonly Batch[]): Pick<TrainerOptions, "data" | "steps" | "seed"> {
  let next = 0;
  return { data: { perEpoch: 4, next: () => given[next++]! }, steps: 4, seed: 1 };
}

/** Tensors, moments and gradients' statistics: all that a step may change but gradients. */
async function everything(trainer: Trainer): Promise<Map<string, Uint8Array>> {
  const bits = new Map<string, Uint8Array>();
  for (const name of trainer.state.specs.keys()) {
    const companions = trainer.state.companions(name).filter((other) => !other.startsWith("gradient of "));
    for (const own of [name, ...companions]) {
      const data = await trainer.state.tensor(own).read();
      bits.set(own, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    }
  }
  expect([...bits.keys()]).toContain(momentNames([...trainer.state.live.keys()][0]!)[0]);
  return bits;
}

const WEIGHT = "bert.encoder.layer.0.output.dense.weight";

describe("a step whose loss is not finite", () => {
  it.each([
    ["LoRA", () => ({ adapter: lora({ rank: 2 }) })],
    ["accumulated LoRA", () => ({ adapter: lora({ rank: 2 }), microBatch: 2 })],
    ["AdaLoRA", () => ({ adapter: adalora({ initialRank: 3, targetRank: 2 }) })],
    ["AFLoRA with its policy", () => ({ adapter: aflora({ rank: 2 }), policy: afloraFreezing() })],
  ] as const)("changes no bit, and the run stops or goes on with the next batch: %s", async (_, options) => {
    const weight = model.weights.get(WEIGHT);
    const values = await weight!.read();
    const given = batches(5);
    const clean = await run(
      given.filter((__, i) => i !== 2),
      options(),
    );
    using trainer = await Trainer.create({ model, ...listed(given), ...options() });
    const losses: number[] = [];
    while (losses.length < 2) losses.push((await trainer.steps().next()).value?.loss ?? NaN);
    const before = await everything(trainer);
    weight?.write(values.map(() => NaN));
    const failure = (await trainer
      .steps()
      .next()
      .catch((error: unknown) => error)) as NotFiniteError;
    weight?.write(values);
    expect(failure).toBeInstanceOf(NotFiniteError);
    expect(failure).toMatchObject({ step: 2, what: "loss", value: NaN });
    expect(trainer.progress.step).toBe(2);
    expect(await everything(trainer), "after the bad step").toEqual(before);
    while (losses.length < 4) losses.push((await trainer.steps().next()).value?.loss ?? NaN);
    expect(losses).toEqual(clean.losses);
    expect(await everything(trainer), "at the end").toEqual(clean.state);
  });
});

describe("a step whose loss is finite and one of whose gradients is not", () => {
  it("changes no bit", async () => {
    const adapter = lora({ rank: 2, alpha: 2e6 });
    using trainer = await Trainer.create({ model, adapter, ...listed(batches(5)) });
    // B is 0, so that A does not act; but the gradient of B holds x A.
    const name = [...trainer.state.live.keys()].find((own) => own.endsWith("value.lora_A.weight"))!;
    const values = await trainer.state.tensor(name).read();
    trainer.state.write(
      name,
      values.map((value) => Math.sign(value) * 1e37),
    );
    const before = await everything(trainer);
    const failure = await trainer
      .steps()
      .next()
      .catch((error: unknown) => error);
    expect(failure).toMatchObject({ step: 0, what: "gradient norm" });
    expect((failure as NotFiniteError).value).not.toBeLessThan(Infinity);
    expect(await everything(trainer)).toEqual(before);
    trainer.state.write(name, values);
    expect((await trainer.steps().next()).value?.loss).toBeLessThan(Infinity);
  });
});

describe('onNotFinite: "skip"', () => {
  /** Images with a pixel that is no number. */
  const poisoned = (batch: Batch): Batch => ({ ...batch, pixels: batch.pixels!.map(() => NaN) });

  it("goes on with the next batch, says which step it was, and ends as a run without the batch", async () => {
    using images = await initialiseModel(engine, tiny.vit({ num_hidden_layers: 1 }));
    const data = tinyData(images, 4);
    const good = Array.from({ length: 4 }, () => data.next());
    const [first, second, third, fourth] = good as [Batch, Batch, Batch, Batch];
    const clean = await run(good, { model: images });
    expect(clean.skipped).toEqual([]);
    const given = [first, poisoned(first), second, poisoned(third), poisoned(fourth), third, fourth];
    const skipping = await run(given, { model: images, onNotFinite: "skip" });
    expect(skipping.skipped).toEqual([1, 2, 2].map((step) => ({ step, what: "loss", value: "NaN" })));
    expect(skipping.losses).toEqual(clean.losses);
    expect(skipping.state).toEqual(clean.state);
    const hopeless = Array.from({ length: 20 }, () => poisoned(first));
    await expect(run(hopeless, { model: images, onNotFinite: "skip" })).rejects.toThrow(/^10 steps in a row .* step 0/);
  });

  it("is one of two words", async () => {
    const onNotFinite = "ignore" as "skip";
    await expect(run(batches(1), { onNotFinite })).rejects.toThrow(ConfigError);
  });
});
