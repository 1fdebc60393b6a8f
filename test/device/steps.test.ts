import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Engine, fixed, initialiseModel, lora, never, NotFiniteError, Trainer } from "safetape";
import type { Batch, BatchSource, FreezePolicy, LoadedModel, TrainerOptions } from "safetape";
import { Watch } from "../../bench/support/watch";
import { testDevice } from "../support/device";
import { tiny, tinyData } from "../support/tiny";

let engine: Engine;
let watch: Watch;
beforeEach(async () => {
  engine = new Engine(await testDevice());
  watch = new Watch(engine.device);
});
afterEach(() => {
  expect(engine.ledger.liveBytes, "bytes left in the ledger").toBe(0);
  engine.dispose();
});

const bert = (): Promise<LoadedModel> => initialiseModel(engine, tiny.bert());

function make(model: LoadedModel, more: Partial<TrainerOptions> = {}): Promise<Trainer> {
  const adapter = lora({ rank: 2, dropout: 0.1 });
  return Trainer.create({ model, adapter, data: tinyData(model, 5), steps: 6, seed: 3, ...more });
}

/** Hands out given batches, then throws; counts how often it was asked. */
class Listed implements BatchSource {
  asked = 0;
  readonly perEpoch = 10;
  constructor(private readonly batches: readonly Batch[]) {}

  next(): Batch {
    const batch = this.batches[this.asked++];
    if (!batch) throw new RangeError(`no batch ${this.asked}`);
    return batch;
  }
}

const SPLITS: readonly [string, Partial<TrainerOptions>, number][] = [
  // The update, and the next step's gradients.
  ["a whole batch", {}, 2],
  ["a batch in three parts", { microBatch: 2 }, 3],
  ["two batches", { accumulate: 2 }, 2],
];

/** So many full batches of one shape. */
function sameShape(model: LoadedModel, count: number): Batch[] {
  const data = tinyData(model, 5);
  const all = Array.from({ length: 2 * count }, () => data.next());
  return all.filter(({ rows }) => rows === 5).slice(0, count);
}

describe.each(SPLITS)("a step of %s", (_, options, runs) => {
  it("makes no GPU object once it is compiled, and the host waits for it once", async () => {
    using model = await bert();
    using trainer = await make(model, { ...options, data: new Listed(sameShape(model, 12)) });
    const steps = trainer.steps({ ahead: true });
    await steps.next();
    await steps.next();
    for (let step = 3; step <= 5; step++) {
      watch.take();
      await steps.next();
      const { objects, submits, roundTrips } = watch.take();
      expect(objects, `objects made in step ${step}`).toEqual({});
      expect({ submits, roundTrips }, `step ${step}`).toEqual({ submits: runs, roundTrips: 1 });
    }
  });

  it("that is not finite fails as itself, and the next one goes on as if its batches had not been", async () => {
    using model = await bert();
    const perStep = options.accumulate ?? 1;
    const batches = sameShape(model, 4 * perStep);
    const weight = model.weights.get("bert.encoder.layer.1.output.dense.weight");
    const values = await weight!.read();
    using trainer = await make(model, { ...options, steps: 3, data: new Listed(batches) });
    const { value: first } = await trainer.steps().next();
    const good = await trainer.state.snapshot();
    weight?.write(values.map(() => NaN));
    const failure = await trainer.train().catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(NotFiniteError);
    expect((failure as NotFiniteError).step).toBe(1);
    expect(await trainer.state.snapshot(), "the adapter after the bad step").toEqual(good);
    weight?.write(values);
    const { losses } = await trainer.train();
    const without = batches.filter((_, i) => i < perStep || i >= 2 * perStep);
    using other = await make(model, { ...options, steps: 3, data: new Listed(without) });
    expect(losses[0]).toBe(first?.loss);
    expect(losses).toEqual((await other.train()).losses);
    expect(await trainer.state.snapshot()).toEqual(await other.state.snapshot());
  });
});

describe("gradients that begin before their step is asked for", () => {
  /** Freezes nothing, but has to be asked after every step, so that nothing begins before that. */
  const attentive: FreezePolicy = {
    kind: "freezing",
    name: "attentive",
    start: () => ({ isDue: () => true, decide: () => Promise.resolve([]) }),
  };

  it("are in the queue when the host has read the step before", async () => {
    using model = await bert();
    const submits = async (policy: FreezePolicy): Promise<number[]> => {
      using trainer = await make(model, { data: new Listed(sameShape(model, 6)), policy });
      watch.take();
      const seen: number[] = [];
      for await (const { step } of trainer.steps({ ahead: true })) seen[step - 1] = watch.take().submits;
      return seen.slice(2);
    };
    expect(await submits(never()), "the last step has nothing to begin").toEqual([2, 2, 2, 1]);
    expect(await submits(attentive), "with a policy that is due after every step").toEqual([1, 1, 1, 1]);
  });

  it("leave those of the last step alone unless `ahead` says so", async () => {
    using model = await bert();
    using trainer = await make(model, { data: new Listed(sameShape(model, 6)) });
    watch.take();
    for await (const { step } of trainer.steps()) {
      const { submits } = watch.take();
      if (step > 2) expect(submits, `step ${step}`).toBe(1);
    }
  });

  it("change no bit", async () => {
    using model = await bert();
    const trained = async (policy: FreezePolicy) => {
      using trainer = await make(model, { data: new Listed(sameShape(model, 6)), policy });
      const { losses } = await trainer.train();
      return { losses, adapter: await trainer.state.snapshot() };
    };
    expect(await trained(never())).toEqual(await trained(attentive));
  });

  it("are computed again where the host has changed a tensor meanwhile", async () => {
    using model = await bert();
    const doubled = async (policy: FreezePolicy) => {
      using trainer = await make(model, { data: new Listed(sameShape(model, 6)), policy });
      const losses: number[] = [];
      for await (const { step, loss } of trainer.steps({ ahead: true })) {
        losses.push(loss);
        const [name] = [...trainer.state.live.keys()].filter((live) => live.includes("lora_B"));
        const tensor = trainer.state.tensor(name!);
        if (step === 3) tensor.write((await tensor.read()).map((value) => 2 * value));
      }
      return losses;
    };
    expect(await doubled(never())).toEqual(await doubled(attentive));
  });
});

describe("the batch that is looked at while another runs", () => {
  it("is one of the run's own: no more are asked for than there are steps", async () => {
    using model = await bert();
    const data = new Listed(sameShape(model, 6));
    using trainer = await make(model, { data });
    const asked: number[] = [];
    for await (const { step } of trainer.steps()) asked[step] = data.asked;
    expect(asked.slice(1)).toEqual([2, 3, 4, 5, 6, 6]);
  });

  it("fails in its own step when there is none", async () => {
    using model = await bert();
    using trainer = await make(model, { data: new Listed(sameShape(model, 3)) });
    const reports: number[] = [];
    const run = trainer.train(({ step }) => reports.push(step));
    await expect(run).rejects.toThrow(new RangeError("no batch 4"));
    expect(reports).toEqual([1, 2, 3]);
  });

  it("meets the state that evaluation, freezing and changed weights leave", async () => {
    using model = await bert();
    const batches = sameShape(model, 6);
    const layer = (index: number) => [`layer.${index}.`];
    const policy = fixed([{ beforeStep: 3, tensors: layer(0) }]);
    using plain = await make(model, { data: new Listed(batches), policy });
    const expected = await plain.train();
    using trainer = await make(model, { data: new Listed(batches) });
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
