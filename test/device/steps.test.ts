import { describe, expect, it } from "vitest";
import { fixed, initialiseModel, lora, never, Trainer } from "safetape";
import { NotFiniteError } from "safetape/engine";
import type { Batch, BatchSource, FreezePolicy, LoadedModel, TrainerOptions } from "safetape";
import { Watch } from "../../bench/support/watch";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { tiny, tinyData } from "../support/tiny";

const engine = await useEngine();
const watch = new Watch(engine.device);

const bert = (): Promise<LoadedModel> => initialiseModel(engine, tiny.bert());

function makeTrainer(model: LoadedModel, options: Partial<TrainerOptions> = {}): Promise<Trainer> {
  const adapter = lora({ rank: 2, dropout: 0.1 });
  return Trainer.create({ model, adapter, data: tinyData(model, 5), steps: 6, seed: 3, ...options });
}

/** Gives the batches of a list, then throws; counts the calls. */
class BatchList implements BatchSource {
  calls = 0;
  readonly perEpoch = 10;
  constructor(private readonly batches: readonly Batch[]) {}

  next(): Batch {
    const batch = this.batches[this.calls++];
    if (!batch) throw new RangeError(`no batch ${this.calls}`);
    return batch;
  }
}

/** How a step may be split into runs of plans, and the number of submissions that a step then takes. */
const SPLITS: readonly [string, Partial<TrainerOptions>, number][] = [
  // The update, and the gradients of the next step.
  ["a whole batch", {}, 2],
  ["a batch in three parts", { memory: { microBatch: 2 } }, 3],
  ["two batches", { accumulate: 2 }, 2],
];

/** Full batches of one shape. */
function sameShape(model: LoadedModel, count: number): Batch[] {
  const data = tinyData(model, 5);
  const batches = Array.from({ length: 2 * count }, () => data.next());
  return batches.filter(({ rows }) => rows === 5).slice(0, count);
}

describe.each(SPLITS)("a step of %s", (_, options, submissions) => {
  it("makes no GPU object after the first steps, and the host waits for it once", async () => {
    using model = await bert();
    using trainer = await makeTrainer(model, { ...options, data: new BatchList(sameShape(model, 12)) });
    const steps = trainer.steps({ ahead: true });
    await steps.next();
    await steps.next();
    for (let step = 3; step <= 5; step++) {
      watch.take();
      await steps.next();
      const { objects, submits, roundTrips } = watch.take();
      expect(objects, `objects made in step ${step}`).toEqual({});
      expect({ submits, roundTrips }, `step ${step}`).toEqual({ submits: submissions, roundTrips: 1 });
    }
  });

  it("fails where it is not finite, and the run then continues as if its batches had not existed", async () => {
    using model = await bert();
    const perStep = options.accumulate ?? 1;
    const batches = sameShape(model, 4 * perStep);
    const weight = model.weights.get("bert.encoder.layer.1.output.dense.weight");
    const values = await weight!.read();
    using trainer = await makeTrainer(model, { ...options, steps: 3, data: new BatchList(batches) });
    const { value: first } = await trainer.steps().next();
    const good = await trainer.state.snapshot();
    weight?.write(values.map(() => NaN));
    expect((await failure(trainer.train(), NotFiniteError)).step).toBe(1);
    expect(await trainer.state.snapshot(), "the adapter after the bad step").toEqual(good);
    weight?.write(values);
    const { losses } = await trainer.train();
    const otherBatches = batches.filter((_, i) => i < perStep || i >= 2 * perStep);
    using other = await makeTrainer(model, { ...options, steps: 3, data: new BatchList(otherBatches) });
    expect(losses[0]).toBe(first?.loss);
    expect(losses).toEqual((await other.train()).losses);
    expect(await trainer.state.snapshot()).toEqual(await other.state.snapshot());
  });
});

describe("gradients of the next step that start before the step is asked for", () => {
  /** Freezes nothing, but is due after every step, so that no gradients may start before its answer. */
  const attentive: FreezePolicy = {
    kind: "freezing",
    name: "attentive",
    start: () => ({ isDue: () => true, decide: () => Promise.resolve([]) }),
  };

  it("are in the queue when the host has read the results of the step before", async () => {
    using model = await bert();
    const submits = async (policy: FreezePolicy): Promise<number[]> => {
      using trainer = await makeTrainer(model, { data: new BatchList(sameShape(model, 6)), policy });
      watch.take();
      const counts: number[] = [];
      for await (const { step } of trainer.steps({ ahead: true })) counts[step - 1] = watch.take().submits;
      return counts.slice(2);
    };
    expect(await submits(never()), "the last step has no next one").toEqual([2, 2, 2, 1]);
    expect(await submits(attentive), "with a policy that is due after every step").toEqual([1, 1, 1, 1]);
  });

  it("do not start unless `ahead` is set", async () => {
    using model = await bert();
    using trainer = await makeTrainer(model, { data: new BatchList(sameShape(model, 6)) });
    watch.take();
    for await (const { step } of trainer.steps()) {
      const { submits } = watch.take();
      if (step > 2) expect(submits, `step ${step}`).toBe(1);
    }
  });

  it("change no bit", async () => {
    using model = await bert();
    const trained = async (policy: FreezePolicy) => {
      using trainer = await makeTrainer(model, { data: new BatchList(sameShape(model, 6)), policy });
      const { losses } = await trainer.train();
      return { losses, adapter: await trainer.state.snapshot() };
    };
    expect(await trained(never())).toEqual(await trained(attentive));
  });

  it("are computed again where the host has changed a tensor in the meantime", async () => {
    using model = await bert();
    const doubled = async (policy: FreezePolicy) => {
      using trainer = await makeTrainer(model, { data: new BatchList(sameShape(model, 6)), policy });
      const losses: number[] = [];
      for await (const { step, loss } of trainer.steps({ ahead: true })) {
        losses.push(loss);
        const name = [...trainer.state.live.keys()].find((live) => live.includes("lora_B"))!;
        const tensor = trainer.state.tensor(name);
        if (step === 3) tensor.write((await tensor.read()).map((value) => 2 * value));
      }
      return losses;
    };
    expect(await doubled(never())).toEqual(await doubled(attentive));
  });
});

describe("the batch that is drawn while another one runs", () => {
  it("belongs to the run: no more batches are drawn than there are steps", async () => {
    using model = await bert();
    const data = new BatchList(sameShape(model, 6));
    using trainer = await makeTrainer(model, { data });
    const drawn: number[] = [];
    for await (const { step } of trainer.steps()) drawn[step] = data.calls;
    expect(drawn.slice(1)).toEqual([2, 3, 4, 5, 6, 6]);
  });

  it("fails in its own step when the source has none left", async () => {
    using model = await bert();
    using trainer = await makeTrainer(model, { data: new BatchList(sameShape(model, 3)) });
    const steps: number[] = [];
    const run = trainer.train(({ step }) => steps.push(step));
    await expect(run).rejects.toThrow(new RangeError("no batch 4"));
    expect(steps).toEqual([1, 2, 3]);
  });

  it("runs with the state that evaluation, freezing and changed weights leave", async () => {
    using model = await bert();
    const batches = sameShape(model, 6);
    const policy = fixed([{ beforeStep: 3, tensors: ["layer.0."] }]);
    using plain = await makeTrainer(model, { data: new BatchList(batches), policy });
    const expected = await plain.train();
    using trainer = await makeTrainer(model, { data: new BatchList(batches) });
    const losses: number[] = [];
    for await (const { step, loss } of trainer.steps()) {
      losses.push(loss);
      await trainer.evaluate([tinyData(model, 3).next()]);
      const snapshot = await trainer.state.snapshot();
      if (step === 2) trainer.state.restore(new Map([...snapshot].map(([name, { data }]) => [name, { data }])));
      const names = [...trainer.state.live.keys()].filter((name) => name.includes("layer.0."));
      if (step === 3) await trainer.freeze(names);
    }
    expect(losses).toEqual(expected.losses);
    expect(await trainer.state.snapshot()).toEqual(await plain.state.snapshot());
  });
});
