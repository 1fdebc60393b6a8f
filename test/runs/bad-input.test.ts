import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  Batches,
  DataError,
  DeviceError,
  Engine,
  initialiseModel,
  lora,
  promptTuning,
  ShapeError,
  Trainer,
} from "safetape";
import { ConfigError } from "safetape";
import type { BatchSource, LoadedModel, TrainerOptions } from "safetape";
import { openDevice } from "../../src/gpu/device";
import { testDevice } from "../support/device";

const BERT = {
  model_type: "bert",
  vocab_size: 30,
  hidden_size: 16,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  intermediate_size: 32,
  max_position_embeddings: 16,
  num_labels: 3,
};

let engine: Engine;
let before: number;
let model: LoadedModel;
beforeEach(async () => {
  engine = new Engine(await testDevice());
  model = await initialiseModel(engine, BERT);
  before = engine.ledger.liveBytes;
});
afterEach(() => {
  model.dispose();
  engine.dispose();
});

const sample = (ids: number[], label: number) => ({ ids: Int32Array.from(ids), label });
const good = [sample([1, 2, 3], 0), sample([4, 5], 2)];

function options(samples = good, more: Partial<TrainerOptions> = {}): TrainerOptions {
  return { model, adapter: lora({ rank: 2 }), data: new Batches(samples, { size: 2 }), steps: 3, ...more };
}

/** One line of fact and one of remedy, and all memory back. */
async function refuses(work: Promise<unknown>, kind: new (...args: never[]) => Error, fact: RegExp): Promise<void> {
  const error = await work.then(
    () => new Error("nothing was thrown"),
    (thrown: unknown) => thrown as Error,
  );
  expect(error).toBeInstanceOf(kind);
  expect(error.message).toMatch(fact);
  expect(error.message.split("\n"), "one line of fact, one of remedy").toHaveLength(2);
  expect(engine.ledger.liveBytes, "bytes live afterwards").toBe(before);
}

/** Runs a whole training and gives its memory back however it ends. */
async function train(given: TrainerOptions): Promise<void> {
  using trainer = await Trainer.create(given);
  await trainer.train();
}

describe("data that the model does not have", () => {
  it.each<[string, Promise<unknown> | (() => Promise<unknown>), RegExp]>([
    ["a token id", () => train(options([sample([1, 30], 0)])), /token id 30; the model knows ids below 30/],
    ["a negative token id", () => train(options([sample([-1], 0)])), /token id -1/],
    ["a label", () => train(options([sample([1], 3)])), /label 3; the model has 3 classes/],
    [
      "a length",
      () => train(options([sample(Array<number>(17).fill(1), 0)])),
      /Rows of 17 tokens do not fit .* at most 16/,
    ],
    [
      "a length with a prompt",
      () => train(options([sample(Array<number>(14).fill(1), 0)], { adapter: promptTuning({ tokens: 3 }) })),
      /Rows of 14 tokens with 3 virtual tokens do not fit/,
    ],
  ])("refuses %s", async (_, run, fact) => {
    await refuses(typeof run === "function" ? run() : run, DataError, fact);
  });

  it("keeps the last good adapter when a later batch is bad", async () => {
    const batches = new Batches(good, { size: 2, shuffle: false });
    let next = 0;
    const data: BatchSource = {
      perEpoch: 3,
      next: () => (next++ === 1 ? { ...batches.next(), labels: Int32Array.of(7, 0) } : batches.next()),
    };
    using trainer = await Trainer.create(options(good, { data }));
    const steps = trainer.steps();
    await steps.next();
    const snapshot = await trainer.state.snapshot();
    await expect(steps.next()).rejects.toThrow(/label 7/);
    expect(await trainer.state.snapshot()).toEqual(snapshot);
  });
});

describe("a trainer that cannot be made", () => {
  it("refuses initial tensors of another adapter, or of another rank", async () => {
    const other = new Map([["nowhere.lora_A.weight", { data: new Float32Array(4) }]]);
    await refuses(
      Trainer.create(options(good, { initial: other })),
      ConfigError,
      /nowhere\.lora_A\.weight is no tensor/,
    );
    const name = "bert.encoder.layer.0.attention.self.query.lora_A.weight";
    const wide = new Map([[name, { data: new Float32Array(3 * 16) }]]);
    await refuses(Trainer.create(options(good, { initial: wide })), ShapeError, /has 48 elements/);
  });

  it("returns everything when the n-th allocation fails, for every n", async () => {
    const { handle } = engine.device;
    const create = handle.createBuffer.bind(handle);
    let [calls, failing] = [0, Infinity];
    handle.createBuffer = (descriptor) => {
      if (++calls === failing) throw new Error("simulated: out of memory");
      return create(descriptor);
    };
    const whole = await Trainer.create(options());
    whole.dispose();
    const needed = calls;
    expect(needed, "allocations of a trainer").toBeGreaterThan(20);
    for (failing = 1; failing <= needed; failing++) {
      calls = 0;
      await expect(Trainer.create(options()), `allocation ${failing}`).rejects.toThrow(/simulated/);
      expect(engine.ledger.liveBytes, `bytes live after allocation ${failing} failed`).toBe(before);
    }
    failing = Infinity;
    await train(options());
    expect(engine.ledger.liveBytes).toBe(before);
  });
});

describe("a device that is not there", () => {
  it("says what to install when there is no adapter", async () => {
    const none = { requestAdapter: () => Promise.resolve(null) } as unknown as GPU;
    await refuses(openDevice(none), DeviceError, /No WebGPU adapter was found\.\nInstall a Vulkan driver/);
  });

  it.each(["before a step", "during a step"])("gives a DeviceError when it is lost %s", async (when) => {
    const trainer = await Trainer.create(options());
    const steps = trainer.steps();
    await steps.next();
    if (when === "before a step") engine.device.handle.destroy();
    const step = steps.next();
    if (when === "during a step") engine.device.handle.destroy();
    await expect(step).rejects.toThrow(DeviceError);
    await expect(trainer.state.snapshot()).rejects.toThrow(DeviceError);
    trainer.dispose();
    expect(engine.ledger.liveBytes, "bytes live after dispose").toBe(before);
  });
});
