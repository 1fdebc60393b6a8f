import { afterAll, describe, expect, it } from "vitest";
import { adalora, aflora, afloraFreezing, initialiseModel, lora, Trainer } from "safetape";
import { ConfigError, NotFiniteError } from "safetape/engine";
import type { Batch, TrainerOptions } from "safetape";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { tiny, tinyData } from "../support/tiny";

const engine = await useEngine();
const model = await initialiseModel(engine, tiny.bert({ num_hidden_layers: 1 }));
afterAll(() => model.dispose());

/** Full batches of one shape. */
function batches(count: number): Batch[] {
  const data = tinyData(model, 4);
  return Array.from({ length: count }, () => data.next());
}

/** A run of four steps over these batches. */
async function train(given: readonly Batch[], options: Partial<TrainerOptions> = {}) {
  using trainer = await Trainer.create({ model, adapter: lora({ rank: 2 }), ...stepsOver(given), ...options });
  const { losses, skipped } = await trainer.train();
  return { losses, skipped, state: await stateBytes(trainer) };
}

function stepsOver(given: readonly Batch[]): Pick<TrainerOptions, "data" | "steps" | "seed"> {
  let next = 0;
  return { data: { perEpoch: 4, next: () => given[next++]! }, steps: 4, seed: 1 };
}

/** Tensors, moments and statistics of gradients: everything that a step may change, except gradients. */
async function stateBytes(trainer: Trainer): Promise<Map<string, Uint8Array>> {
  const bytes = new Map<string, Uint8Array>();
  for (const name of trainer.state.specs.keys()) {
    const companions = trainer.state.companions(name).filter(({ kind }) => kind !== "gradient");
    for (const tensor of [name, ...companions.map(({ key }) => key)]) {
      const data = await trainer.state.tensor(tensor).read();
      bytes.set(tensor, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    }
  }
  expect([...bytes.keys()]).toContain(`first moment of ${[...trainer.state.live.keys()][0]!}`);
  return bytes;
}

const WEIGHT = "bert.encoder.layer.0.output.dense.weight";

describe("a step whose loss is not finite", () => {
  it.each([
    ["LoRA", () => ({ adapter: lora({ rank: 2 }) })],
    ["accumulated LoRA", () => ({ adapter: lora({ rank: 2 }), memory: { microBatch: 2 } })],
    ["AdaLoRA", () => ({ adapter: adalora({ initialRank: 3, targetRank: 2 }) })],
    ["AFLoRA with its policy", () => ({ adapter: aflora({ rank: 2 }), policy: afloraFreezing() })],
  ] as const)("changes no bit; the run stops, and can continue with the next batch: %s", async (_, options) => {
    const weight = model.weights.get(WEIGHT);
    const values = await weight!.read();
    const given = batches(5);
    const clean = await train(given.toSpliced(2, 1), options());
    using trainer = await Trainer.create({ model, ...stepsOver(given), ...options() });
    const losses: number[] = [];
    while (losses.length < 2) losses.push((await trainer.steps().next()).value?.loss ?? NaN);
    const before = await stateBytes(trainer);
    weight?.write(values.map(() => NaN));
    const error = await failure(trainer.steps().next(), NotFiniteError);
    weight?.write(values);
    expect(error).toMatchObject({ step: 2, what: "loss", value: NaN });
    expect(trainer.progress.step).toBe(2);
    expect(await stateBytes(trainer), "after the bad step").toEqual(before);
    while (losses.length < 4) losses.push((await trainer.steps().next()).value?.loss ?? NaN);
    expect(losses).toEqual(clean.losses);
    expect(await stateBytes(trainer), "at the end").toEqual(clean.state);
  });
});

describe("a step with a finite loss and a gradient that is not finite", () => {
  it("changes no bit", async () => {
    const adapter = lora({ rank: 2, alpha: 2e6 });
    using trainer = await Trainer.create({ model, adapter, ...stepsOver(batches(5)) });
    // A has no effect on the loss while B is 0, but the gradient of B contains x A.
    const name = [...trainer.state.live.keys()].find((live) => live.endsWith("value.lora_A.weight"))!;
    const values = await trainer.state.tensor(name).read();
    trainer.state.write(
      name,
      values.map((value) => Math.sign(value) * 1e37),
    );
    const before = await stateBytes(trainer);
    const error = await failure(trainer.steps().next(), NotFiniteError);
    expect(error).toMatchObject({ step: 0, what: "gradient norm" });
    expect(error.value).not.toBeLessThan(Infinity);
    expect(await stateBytes(trainer)).toEqual(before);
    trainer.state.write(name, values);
    expect((await trainer.steps().next()).value?.loss).toBeLessThan(Infinity);
  });
});

describe('onNotFinite: "skip"', () => {
  /** The batch with NaN for every pixel. */
  const poisoned = (batch: Batch): Batch => ({ ...batch, pixels: batch.pixels!.map(() => NaN) });

  it("continues with the next batch, reports the step, and ends as a run without the batch", async () => {
    using images = await initialiseModel(engine, tiny.vit({ num_hidden_layers: 1 }));
    const data = tinyData(images, 4);
    const [first, second, third, fourth] = [data.next(), data.next(), data.next(), data.next()];
    const clean = await train([first, second, third, fourth], { model: images });
    expect(clean.skipped).toEqual([]);
    const given = [first, poisoned(first), second, poisoned(third), poisoned(fourth), third, fourth];
    const skipping = await train(given, { model: images, onNotFinite: "skip" });
    expect(skipping.skipped).toEqual([1, 2, 2].map((step) => ({ step, what: "loss", value: "NaN" })));
    expect(skipping.losses).toEqual(clean.losses);
    expect(skipping.state).toEqual(clean.state);
    const hopeless = Array.from({ length: 20 }, () => poisoned(first));
    const skippingAll = train(hopeless, { model: images, onNotFinite: "skip" });
    expect((await failure(skippingAll, NotFiniteError)).fact).toMatch(/^10 steps in a row .* step 0/);
  });

  it("is one of two values: others are refused", async () => {
    // @ts-expect-error -- what plain JavaScript may pass
    await failure(train(batches(1), { onNotFinite: "ignore" }), ConfigError);
  });
});
