import { writeFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { generate, initialiseModel, lora, safe, sparseAdapter, Trainer } from "safetape";
import { OutOfMemoryError } from "safetape/engine";
import type { Batch, TrainerOptions } from "safetape";
import { Random } from "../../src/base/random";
import { makeBatch } from "../../src/data/batch";
import { sumBytes } from "../../src/gpu/ledger";
import { Allocator } from "../support/allocator";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { tiny } from "../support/tiny";

const CONFIG = tiny.bert({ num_hidden_layers: 2 });
const SEED = 5;

const engine = await useEngine();
const model = await initialiseModel(engine, CONFIG);
const allocator = new Allocator(engine.device);
/** Allocations that were refused and reported correctly, by the work that asked for them. */
const injected = new Map<string, number>();
afterAll(() => {
  model.dispose();
  const { info } = engine;
  const refusals = [...injected.values()].reduce((sum, count) => sum + count, 0);
  expect(refusals, "refusals injected").toBeGreaterThan(200);
  // npm run bench:refusals commits this file.
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
function trainerOptions(changes: Partial<TrainerOptions> = {}): TrainerOptions {
  const batches = [batchOf(8, 1), batchOf(8, 2), batchOf(16, 3), batchOf(16, 4)];
  let next = 0;
  const data = { perEpoch: 4, next: () => batches[next++ % 4]! };
  return { model, adapter: lora({ rank: 2, dropout: 0.1 }), data, steps: 4, seed: SEED, ...changes };
}

const live = () => ({ bytes: engine.ledger.live, buffers: engine.ledger.buffers });

function checkError({ message, requestedBytes }: OutOfMemoryError, where: string): void {
  expect(message.split("\n"), "one line of fact, one of remedy").toHaveLength(2);
  expect(message, where).toMatch(/^The driver has no memory for .+: it refused \d+ bytes/);
  expect(requestedBytes, where).toBeGreaterThan(0);
}

interface Refused<T> {
  readonly result: T;
  /** Number of refused allocations. */
  readonly refused: number;
}

interface RefuseOptions {
  /** Runs after each failure. */
  readonly after?: (n: number) => unknown;
  /** Whether all allocations after the refused one are refused too. */
  readonly andLater?: boolean;
}

/** Runs work whose n-th allocation is refused, for n = 1, 2, ..., until it needs no n-th allocation and succeeds. */
async function refuseEach<T>(
  name: string,
  work: () => Promise<T>,
  { after = () => undefined, andLater = false }: RefuseOptions = {},
): Promise<Refused<T>> {
  for (let n = 1; n < 1000; n++) {
    allocator.refuse(n, { andLater });
    try {
      const result = await work();
      expect(allocator.calls, `${name}: buffers allocated when none was refused`).toBeLessThan(n);
      allocator.allowAll();
      return { result, refused: n - 1 };
    } catch (error) {
      allocator.allowAll();
      if (!(error instanceof OutOfMemoryError)) throw error;
      checkError(error, `${name}, allocation ${n}`);
      injected.set(name, (injected.get(name) ?? 0) + 1);
      await after(n);
    }
  }
  throw new Error(`${name} never ended.`);
}

/** `refuseEach`, and after every failure the ledger is as it was before. */
async function refuseEachUnchanged<T>(name: string, work: () => Promise<T>): Promise<Refused<T>> {
  const before = live();
  return refuseEach(name, work, { after: (n) => expect(live(), `${name}, allocation ${n}`).toEqual(before) });
}

describe("when the n-th allocation is refused, for every n", () => {
  it("making a model fails and leaves no memory behind", async () => {
    const { result, refused } = await refuseEachUnchanged("a model", () => initialiseModel(engine, CONFIG));
    expect(refused).toBe(result.weights.size);
    result.dispose();
  });

  it("a trainer, its steps, a longer batch, an evaluation and a freeze fail, and succeed later as if they had not", async () => {
    // A layer, and one tensor of another, beside which the others move together.
    const frozen = (trainer: Trainer) =>
      [...trainer.state.live.keys()].filter((name) => /layer\.0\.|layer\.1\..*query\.lora_A/.test(name));
    const evaluated = [batchOf(12, 9)];
    using plain = await Trainer.create(trainerOptions());
    const steps = plain.steps();
    const expected = [await steps.next(), await steps.next(), await steps.next()].map(({ value }) => value?.loss);
    const answer = await plain.evaluate(evaluated);
    const event = await plain.freeze(frozen(plain));
    const last = (await steps.next()).value?.loss;
    const tensors = await plain.state.snapshot();
    plain.dispose();

    const makeTrainer = () => Trainer.create(trainerOptions());
    const { result, refused } = await refuseEachUnchanged("a trainer", makeTrainer);
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

  it("a policy acts once in a step, when there is memory", async () => {
    const policies = () => [sparseAdapter({ keep: 0.5 }), safe({ every: 1, targetFreezeFraction: 0.5, tauT: 1 })];
    for (const [i, policy] of policies().entries()) {
      using plain = await Trainer.create(trainerOptions({ policy: policies()[i]! }));
      const { losses, freezes } = await plain.train();
      plain.dispose();
      using trainer = await Trainer.create(trainerOptions({ policy }));
      const seenLosses: number[] = [];
      const events = [];
      let refused = 0;
      for (let step = 0; step < 4; step++) {
        const next = await refuseEach(policy.name, async () => (await trainer.steps().next()).value);
        refused += next.refused;
        seenLosses.push(next.result?.loss ?? NaN);
        events.push(...(next.result?.freezes ?? []));
      }
      expect(refused, `allocations of ${policy.name}`).toBeGreaterThan(10);
      expect(seenLosses, policy.name).toEqual(losses);
      expect(events.map(({ tensors }) => tensors)).toEqual(freezes.map(({ tensors }) => tensors));
      expect(engine.ledger.live).toEqual(trainer.predictedBytes());
    }
  });

  it("generation fails and leaves no memory behind", async () => {
    using gpt2 = await initialiseModel(engine, tiny.gpt2({ n_layer: 1 }));
    const work = () => generate(gpt2, [[1, 2, 3]], { maxNewTokens: 3 });
    const { refused } = await refuseEachUnchanged("generation", work);
    expect(refused).toBeGreaterThan(3);
  });
});

describe("when all allocations from the n-th on are refused", () => {
  it("a step fails, holds no more memory than before, and succeeds once there is memory", async () => {
    using plain = await Trainer.create(trainerOptions());
    const { losses } = await plain.train();
    plain.dispose();
    using trainer = await Trainer.create(trainerOptions());
    const steps: (number | undefined)[] = [];
    const before = engine.ledger.liveBytes;
    const after = () => expect(engine.ledger.liveBytes).toBeLessThanOrEqual(before);
    for (let step = 0; step < 4; step++) {
      const work = async () => (await trainer.steps().next()).value?.loss;
      steps.push((await refuseEach(`step ${step}`, work, { andLater: true, after })).result);
    }
    expect(steps).toEqual(losses);
    expect(engine.ledger.live).toEqual(trainer.predictedBytes());
  });
});

describe("the error", () => {
  it("gives the bytes of the plan, and the exact bytes of plans with recomputation or fewer rows", async () => {
    using trainer = await Trainer.create(trainerOptions());
    const [first, second] = [trainer.steps(), trainer.steps()];
    await first.next();
    await second.next();
    const planned = sumBytes(trainer.predictedBytes());
    allocator.refuse(1);
    const error = await failure(trainer.evaluate([batchOf(20, 9)]), OutOfMemoryError);
    allocator.allowAll();
    expect(error.plannedBytes).toBe(planned);
    expect(error.remedy).toContain(`needs ${planned} bytes`);
    const alternatives: Partial<TrainerOptions>[] = [
      { memory: { recompute: "layers" } },
      { memory: { microBatch: 2 } },
      { memory: { recompute: "layers", microBatch: 1 } },
    ];
    expect(error.alternatives.map(({ options }) => options)).toEqual([
      'memory.recompute: "layers"',
      "memory.microBatch: 2",
      'memory.recompute: "layers" and memory.microBatch: 1',
    ]);
    for (const [i, options] of alternatives.entries()) {
      using alternative = await Trainer.create(trainerOptions(options));
      const bytes = sumBytes(alternative.predictedBytes());
      expect(error.alternatives[i]?.bytes, JSON.stringify(options)).toBe(bytes);
      expect(error.remedy).toContain(`${error.alternatives[i]!.options} ${bytes}`);
      expect(bytes).toBeLessThan(planned);
    }
  });
});
