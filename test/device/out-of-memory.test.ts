import { writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Engine, generate, initialiseModel, lora, OutOfMemoryError, safe, sparseAdapter, Trainer } from "safetape";
import type { Batch, LoadedModel, TrainerOptions } from "safetape";
import { Random } from "../../src/base/random";
import { makeBatch } from "../../src/data/batch";
import { sumBytes } from "../../src/gpu/ledger";
import { Allocator } from "../support/allocator";
import { testDevice } from "../support/device";

const CONFIG = {
  model_type: "bert",
  vocab_size: 40,
  hidden_size: 16,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  intermediate_size: 32,
  max_position_embeddings: 32,
  num_labels: 2,
};

const SEED = 5;

let engine: Engine;
let model: LoadedModel;
let allocator: Allocator;
/** Refusals that were injected and answered as they must be, by what they met. */
const injected = new Map<string, number>();
beforeAll(async () => {
  engine = new Engine(await testDevice());
  model = await initialiseModel(engine, CONFIG);
  allocator = new Allocator(engine.device);
});
afterAll(() => {
  model.dispose();
  expect(engine.ledger.liveBytes, "bytes left in the ledger").toBe(0);
  expect(engine.ledger.buffers, "buffers left").toBe(0);
  const { info } = engine;
  engine.dispose();
  const refusals = [...injected.values()].reduce((sum, count) => sum + count, 0);
  expect(refusals, "refusals injected").toBeGreaterThan(200);
  // For npm run bench:refusals, which commits the count.
  const { SAFETAPE_REFUSALS: file } = process.env;
  if (file !== undefined) {
    writeFileSync(file, JSON.stringify({ info, results: { seed: SEED, refusals, of: Object.fromEntries(injected) } }));
  }
});

function batchOf(length: number, seed: number): Batch {
  const random = new Random(seed);
  const samples = Array.from({ length: 4 }, (_, i) => {
    return { ids: Int32Array.from({ length: length - 2 }, () => 1 + random.below(39)), label: i % 2 };
  });
  return makeBatch(samples, { size: 4, length, padId: 0, labels: "class" });
}

/** Two batches of one length, then two of another. */
function options(more: Partial<TrainerOptions> = {}): TrainerOptions {
  const batches = [batchOf(8, 1), batchOf(8, 2), batchOf(16, 3), batchOf(16, 4)];
  let next = 0;
  const data = { perEpoch: 4, next: () => batches[next++ % 4]! };
  return { model, adapter: lora({ rank: 2, dropout: 0.1 }), data, steps: 4, seed: SEED, ...more };
}

const live = () => ({ bytes: engine.ledger.live, buffers: engine.ledger.buffers });

function checkError(error: unknown, where: string): void {
  expect(error, where).toBeInstanceOf(OutOfMemoryError);
  const { message, requestedBytes } = error as OutOfMemoryError;
  expect(message.split("\n"), "one line of fact, one of remedy").toHaveLength(2);
  expect(message, where).toMatch(/^The driver has no memory for .+: it refused \d+ bytes/);
  expect(requestedBytes, where).toBeGreaterThan(0);
}

/** Refuses the first allocation of some work, then the second, and so on, until all are granted; then tells how many. */
async function refuseEach<T>(
  what: string,
  work: () => Promise<T>,
  {
    after = () => undefined,
    goesOn = false,
  }: { readonly after?: (n: number) => unknown; readonly goesOn?: boolean } = {},
): Promise<{ readonly result: T; readonly refused: number }> {
  for (let n = 1; n < 1000; n++) {
    allocator.refuse(n, goesOn);
    try {
      const result = await work();
      expect(allocator.calls, `${what}: buffers made when nothing was refused`).toBeLessThan(n);
      allocator.allowAll();
      return { result, refused: n - 1 };
    } catch (error) {
      allocator.allowAll();
      checkError(error, `${what}, allocation ${n}`);
      injected.set(what, (injected.get(what) ?? 0) + 1);
      await after(n);
    }
  }
  throw new Error(`${what} never ended.`);
}

/** As above, and what was live before is live again. */
async function refuseEachUnchanged<T>(what: string, work: () => Promise<T>): Promise<{ result: T; refused: number }> {
  const before = live();
  return refuseEach(what, work, { after: (n) => expect(live(), `${what}, allocation ${n}`).toEqual(before) });
}

describe("when the n-th allocation is refused, for every n", () => {
  it("a model cannot be made, and leaves nothing", async () => {
    const { result, refused } = await refuseEachUnchanged("a model", () => initialiseModel(engine, CONFIG));
    expect(refused).toBe(result.weights.size);
    result.dispose();
  });

  it("a trainer, its steps, a longer batch, an evaluation and a freeze fail, and go on as if they had not", async () => {
    const frozen = (trainer: Trainer) => [...trainer.state.live.keys()].filter((name) => name.includes("layer.0."));
    const evaluated = [batchOf(12, 9)];
    using plain = await Trainer.create(options());
    const steps = plain.steps();
    const expected = [await steps.next(), await steps.next(), await steps.next()].map(({ value }) => value?.loss);
    const answer = await plain.evaluate(evaluated);
    const event = await plain.freeze(frozen(plain));
    const last = (await steps.next()).value?.loss;
    const tensors = await plain.state.snapshot();
    plain.dispose();

    const make = () => Trainer.create(options());
    const { result, refused } = await refuseEachUnchanged("a trainer", make);
    using trainer = result;
    expect(refused, "allocations of a trainer").toBeGreaterThan(40);
    const step = async () => (await trainer.steps().next()).value?.loss;
    const first = await refuseEachUnchanged("the first step", step);
    expect(first.refused, "allocations of a step of a known shape").toBe(0);
    const losses = [first.result, await step()];
    const longer = await refuseEachUnchanged("a step of a longer batch", step);
    expect(longer.refused, "allocations of a new shape").toBeGreaterThan(3);
    expect([...losses, longer.result]).toEqual(expected);
    const evaluation = await refuseEachUnchanged("an evaluation", () => trainer.evaluate(evaluated));
    expect(evaluation.refused).toBeGreaterThan(3);
    expect(evaluation.result).toEqual(answer);
    const before = engine.ledger.liveBytes;
    const names = frozen(trainer);
    const freeze = await refuseEach("a freeze", () => trainer.freeze(names), {
      after: () => expect(engine.ledger.liveBytes, "after a refused freeze").toBeLessThanOrEqual(before),
    });
    expect(freeze.refused).toBeGreaterThan(0);
    expect(freeze.result).toEqual(event);
    expect(engine.ledger.live).toEqual(trainer.predictedBytes());
    const afterFreeze = await refuseEachUnchanged("a step after a freeze and an evaluation", step);
    expect(afterFreeze.result).toBe(last);
    const snapshot = await refuseEachUnchanged("a snapshot", () => trainer.state.snapshot());
    expect(snapshot.refused).toBe(snapshot.result.size);
    expect(snapshot.result).toEqual(tensors);
  });

  it("what policies do within a step is done once, when there is memory", async () => {
    const policies = () => [sparseAdapter({ keep: 0.5 }), safe({ every: 1, targetFreezeFraction: 0.5, tauT: 1 })];
    for (const [i, policy] of policies().entries()) {
      using plain = await Trainer.create(options({ policy: policies()[i]! }));
      const { losses, freezes } = await plain.train();
      plain.dispose();
      using trainer = await Trainer.create(options({ policy }));
      const found: number[] = [];
      const events = [];
      let refused = 0;
      for (let step = 0; step < 4; step++) {
        const next = await refuseEach(policy.name, async () => (await trainer.steps().next()).value);
        refused += next.refused;
        found.push(next.result?.loss ?? NaN);
        events.push(...(next.result?.freezes ?? []));
      }
      expect(refused, `allocations of ${policy.name}`).toBeGreaterThan(10);
      expect(found, policy.name).toEqual(losses);
      expect(events.map(({ tensors }) => tensors)).toEqual(freezes.map(({ tensors }) => tensors));
      expect(engine.ledger.live).toEqual(trainer.predictedBytes());
    }
  });

  it("texts are not continued, and leave nothing", async () => {
    const config = { model_type: "gpt2", vocab_size: 40, n_positions: 32, n_embd: 16, n_layer: 1, n_head: 2 };
    using writer = await initialiseModel(engine, config);
    const write = () => generate(writer, [[1, 2, 3]], { maxNewTokens: 3 });
    const { refused } = await refuseEachUnchanged("generation", write);
    expect(refused).toBeGreaterThan(3);
  });
});

describe("when no allocation is granted any more", () => {
  it("a step fails, keeps what it had or less, and goes on once there is memory", async () => {
    using plain = await Trainer.create(options());
    const { losses } = await plain.train();
    plain.dispose();
    using trainer = await Trainer.create(options());
    const steps: (number | undefined)[] = [];
    const before = engine.ledger.liveBytes;
    const after = () => expect(engine.ledger.liveBytes).toBeLessThanOrEqual(before);
    for (let step = 0; step < 4; step++) {
      const work = async () => (await trainer.steps().next()).value?.loss;
      steps.push((await refuseEach(`step ${step}`, work, { goesOn: true, after: step < 2 ? () => 0 : after })).result);
    }
    expect(steps).toEqual(losses);
    expect(engine.ledger.live).toEqual(trainer.predictedBytes());
  });
});

describe("the error", () => {
  it("says what the plan needs, and with recomputation or fewer rows: what those plans really take", async () => {
    using trainer = await Trainer.create(options());
    const [first, second] = [trainer.steps(), trainer.steps()];
    await first.next();
    await second.next();
    const planned = sumBytes(trainer.predictedBytes());
    allocator.refuse(1);
    const error = (await trainer.evaluate([batchOf(20, 9)]).catch((thrown: unknown) => thrown)) as OutOfMemoryError;
    allocator.allowAll();
    expect(error.plannedBytes).toBe(planned);
    expect(error.remedy).toContain(`needs ${planned} bytes`);
    const others: Partial<TrainerOptions>[] = [
      { recompute: "layers" },
      { microBatch: 2 },
      { recompute: "layers", microBatch: 1 },
    ];
    expect(error.alternatives.map(({ options: told }) => told)).toEqual([
      'recompute: "layers"',
      "microBatch: 2",
      'recompute: "layers" and microBatch: 1',
    ]);
    for (const [i, other] of others.entries()) {
      using alternative = await Trainer.create(options(other));
      const bytes = sumBytes(alternative.predictedBytes());
      expect(error.alternatives[i]?.bytes, JSON.stringify(other)).toBe(bytes);
      expect(error.remedy).toContain(`${error.alternatives[i]!.options} ${bytes}`);
      expect(bytes).toBeLessThan(planned);
    }
  });
});
