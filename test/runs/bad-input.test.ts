import { afterAll, describe, expect, it } from "vitest";
import { Engine, initialiseModel, lora, promptTuning, Trainer } from "safetape";
import { ConfigError, DataError, DeviceError, ShapeError } from "safetape/engine";
import { Batches, memoryDirectory } from "safetape/data";
import type { BatchSource, FreezePolicy, SafetapeError, TrainerOptions } from "safetape";
import { openDevice } from "../../src/gpu/device";
import { testDevice } from "../support/device";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { layerCount, tiny } from "../support/tiny";

const CONFIG = tiny.bert({ ...layerCount(2), vocab_size: 30, max_position_embeddings: 16, num_labels: 3 });

const engine = await useEngine();
const model = await initialiseModel(engine, CONFIG);
afterAll(() => model.dispose());

const sample = (ids: number[], label: number) => ({ ids: Int32Array.from(ids), label });
const good = [sample([1, 2, 3], 0), sample([4, 5], 2)];

function trainerOptions(samples = good, changes: Partial<TrainerOptions> = {}): TrainerOptions {
  return { model, adapter: lora({ rank: 2 }), data: new Batches(samples, { size: 2 }), steps: 3, ...changes };
}

type ErrorClass = abstract new (...args: never[]) => SafetapeError;

/** Expects an error of one line of fact and one of remedy, and the live bytes of before. */
async function expectRefusal(work: () => Promise<unknown>, kind: ErrorClass, fact: RegExp): Promise<void> {
  const before = engine.ledger.liveBytes;
  const error = await failure(work, kind);
  expect(error.message).toMatch(fact);
  expect(error.message.split("\n"), "one line of fact, one of remedy").toHaveLength(2);
  expect(engine.ledger.liveBytes, "live bytes afterwards").toBe(before);
}

async function train(options: TrainerOptions): Promise<void> {
  using trainer = await Trainer.create(options);
  await trainer.train();
}

describe("data that the model has no place for", () => {
  it.each<[string, () => Promise<unknown>, RegExp]>([
    ["a token id", () => train(trainerOptions([sample([1, 30], 0)])), /token id 30; the model knows ids below 30/],
    ["a negative token id", () => train(trainerOptions([sample([-1], 0)])), /token id -1/],
    ["a label", () => train(trainerOptions([sample([1], 3)])), /label 3; the model has 3 classes/],
    [
      "a length",
      () => train(trainerOptions([sample(Array<number>(17).fill(1), 0)])),
      /Rows of 17 tokens do not fit .* at most 16/,
    ],
    [
      "a length with a prompt",
      () => train(trainerOptions([sample(Array<number>(14).fill(1), 0)], { adapter: promptTuning({ tokens: 3 }) })),
      /Rows of 14 tokens with 3 virtual tokens do not fit/,
    ],
  ])("is refused: %s", async (_, work, fact) => {
    await expectRefusal(work, DataError, fact);
  });

  it("leaves the adapter of the step before when it comes in a later batch", async () => {
    const batches = new Batches(good, { size: 2, shuffle: false });
    let next = 0;
    const data: BatchSource = {
      perEpoch: 3,
      next: () => (next++ === 1 ? { ...batches.next(), labels: Int32Array.of(7, 0) } : batches.next()),
    };
    using trainer = await Trainer.create(trainerOptions(good, { data }));
    const steps = trainer.steps();
    await steps.next();
    const snapshot = await trainer.state.snapshot();
    expect((await failure(steps.next(), DataError)).fact).toMatch(/label 7/);
    expect(await trainer.state.snapshot()).toEqual(snapshot);
  });
});

describe("an option that does not exist", () => {
  const FORMER: Readonly<Record<string, string>> = {
    memoryBudget: "memory: { budget }",
    microBatch: "memory: { microBatch }",
    recompute: "memory: { recompute }",
    activations: "memory: { activations }",
    checkpointEvery: "checkpoints: { every }",
    keepCheckpoints: "checkpoints: { keep }",
    resume: "checkpoints: { resume }",
    checkpointExtra: "checkpoints: { extra }",
    epoch: "epochs",
    optimiser: "optimizer",
    mergeOnFreze: "mergeOnFreeze",
  };

  it.each(Object.entries(FORMER))("is refused with the nearest: %s", async (name, nearest) => {
    const error = await failure(Trainer.create({ ...trainerOptions(), [name]: undefined }), ConfigError);
    expect(error.message).toBe(`A trainer has no option ${name}.\nThe nearest is ${nearest}.`);
  });

  it.each<[string, object, RegExp]>([
    ["of a group", { memory: { budgt: 1 } }, /memory has no option budgt\.\nIts options are budget, microBatch/],
    ["for a group", { memory: "8GB" }, /memory is not an object/],
    [
      "a directory for a group",
      { checkpoints: memoryDirectory("run") },
      /checkpoints has no option name\.\n.* directory,/,
    ],
  ])("is refused with the group's: %s", async (_, options, message) => {
    await expectRefusal(() => Trainer.create({ ...trainerOptions(), ...options }), ConfigError, message);
  });
});

describe("a policy that reads more than it declares", () => {
  it("is refused when it reads importance, which no budget has counted", async () => {
    const policy: FreezePolicy = {
      kind: "freezing",
      name: "undeclared",
      start: () => ({
        isDue: () => true,
        async decide({ importance }) {
          await importance();
          return [];
        },
      }),
    };
    await expectRefusal(() => train(trainerOptions(good, { policy })), ConfigError, /importance without declaring it/);
  });
});

describe("a trainer that cannot be made", () => {
  it("refuses initial tensors of another adapter or of another rank", async () => {
    const other = new Map([["nowhere.lora_A.weight", { data: new Float32Array(4) }]]);
    const withOther = () => Trainer.create(trainerOptions(good, { initial: other }));
    await expectRefusal(withOther, ConfigError, /nowhere\.lora_A\.weight is not a tensor/);
    const name = "bert.encoder.layer.0.attention.self.query.lora_A.weight";
    const wide = new Map([[name, { data: new Float32Array(3 * 16) }]]);
    const withWide = () => Trainer.create(trainerOptions(good, { initial: wide }));
    await expectRefusal(withWide, ShapeError, /has 48 elements/);
  });

  it("returns all memory when the n-th allocation fails, for every n", async () => {
    const before = engine.ledger.liveBytes;
    const { handle } = engine.device;
    const create = handle.createBuffer.bind(handle);
    let [calls, failing] = [0, Infinity];
    handle.createBuffer = (descriptor) => {
      if (++calls === failing) throw new Error("simulated: out of memory");
      return create(descriptor);
    };
    (await Trainer.create(trainerOptions())).dispose();
    const needed = calls;
    expect(needed, "allocations of a trainer").toBeGreaterThan(20);
    for (failing = 1; failing <= needed; failing++) {
      calls = 0;
      await expect(Trainer.create(trainerOptions()), `allocation ${failing}`).rejects.toThrow(/simulated/);
      expect(engine.ledger.liveBytes, `bytes live after allocation ${failing} failed`).toBe(before);
    }
    handle.createBuffer = create;
    await train(trainerOptions());
    expect(engine.ledger.liveBytes).toBe(before);
  });
});

describe("a missing device", () => {
  it("is reported with what to install", async () => {
    // A GPU that has no adapter needs no more than this.
    const none = { requestAdapter: () => Promise.resolve(null) } as unknown as GPU;
    await expectRefusal(() => openDevice(none), DeviceError, /No WebGPU adapter was found\.\nInstall a Vulkan driver/);
  });

  it.each(["before a step", "during a step"])("gives a DeviceError when it is lost %s", async (moment) => {
    using lost = new Engine(await testDevice());
    using lostModel = await initialiseModel(lost, CONFIG);
    const before = lost.ledger.liveBytes;
    const trainer = await Trainer.create({ ...trainerOptions(), model: lostModel });
    const steps = trainer.steps();
    await steps.next();
    if (moment === "before a step") lost.device.handle.destroy();
    const step = steps.next();
    if (moment === "during a step") lost.device.handle.destroy();
    await failure(step, DeviceError);
    await failure(trainer.state.snapshot(), DeviceError);
    trainer.dispose();
    expect(lost.ledger.liveBytes, "live bytes after dispose").toBe(before);
  });
});
