import { writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { fixed, full, initialiseModel, loadModel, lora, plan, promptTuning, safe, Trainer } from "safetape";
import { ConfigError, DataError, sgd } from "safetape/engine";
import { Batches, memoryDirectory, packSamples } from "safetape/data";
import type { LoadedModel, Sample, TrainerOptions } from "safetape";
import { IGNORED_LABEL } from "../../src/data/sample";
import { jsonLines, runCli } from "../support/cli";
import type { CliResult } from "../support/cli";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { useFolder } from "../support/folder";
import { TOKENIZERS, writeModel } from "../support/model-folder";
import { trainedValues } from "../support/tensors";
import { DECODERS, layerNames, tiny, tinySamples, TRIES_ALL_FAMILIES } from "../support/tiny";
import type { Config, Family } from "../support/tiny";
import EXPECTED from "../interop/packing.json";
import { some } from "../support/long";

const engine = await useEngine();
const path = useFolder();

const ROW = 32;
const SOME: readonly Family[] = ["qwen3", "gemma3_text", "phi3", "gpt_neox", "smollm3"];
const FAMILIES: readonly Family[] = ["gpt2", "llama", ...(TRIES_ALL_FAMILIES ? DECODERS : SOME)];
const open = (family: Family, overrides = {}) => {
  const architectures = family === "gpt2" ? { architectures: ["GPT2LMHeadModel"] } : {};
  return initialiseModel(engine, tiny[family]({ ...architectures, ...overrides }));
};

/** Texts of which the first tokens are a prompt, so that only the others are labels. */
const answers = (count: number): Sample[] =>
  tinySamples(count, { areTokens: true }).map(({ ids }, i) => ({
    ids,
    label: ids.map((id, at) => (at < i % 4 ? IGNORED_LABEL : id)),
  }));

const unpacked = (samples: readonly Sample[], size = samples.length) =>
  new Batches(samples, { size, labels: "token", maxLength: ROW, multiple: 16 });

function packed(samples: readonly Sample[], size?: number): Batches {
  const rows = packSamples(samples, ROW);
  return new Batches(rows, { size: size ?? rows.length, labels: "token", maxLength: ROW, multiple: ROW });
}

interface Result {
  readonly losses: readonly number[];
  readonly weights: readonly number[];
  readonly evaluation: number;
}

const SAMPLES = answers(10);

async function train(
  model: LoadedModel,
  options: Partial<TrainerOptions> & Pick<TrainerOptions, "data">,
): Promise<Result> {
  const adapter = lora({ rank: 2, targets: "all-linear" });
  using trainer = await Trainer.create({ model, adapter, steps: 4, seed: 3, dropout: false, ...options });
  for await (const report of trainer.steps()) {
    expect(report.bytes, "ledger against plan").toEqual(trainer.predictedBytes());
  }
  const { loss, count } = await trainer.evaluate(unpacked(SAMPLES, 4).restOfEpoch());
  const rows = await trainer.evaluate(packed(SAMPLES, 2).restOfEpoch());
  expect(rows.count, "labels of packed rows").toBe(count);
  expect(rows.loss, "loss of packed rows").toBeCloseTo(loss, 5);
  return { losses: [...trainer.history.losses], weights: await trainedValues(trainer), evaluation: loss };
}

const worst = (a: readonly number[], b: readonly number[]): number =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));

it.each(some(FAMILIES, 3))(
  "packed rows of %s have the loss and the gradients of the same texts in rows of their own",
  async (family) => {
    /** Weights after a step of learning rate 1: they differ as gradients do. */
    const stepOf = async (data: Batches): Promise<Result> => {
      using model = await open(family);
      const optimizer = sgd({ learningRate: 1, maxGradNorm: 0 });
      return await train(model, { data, adapter: full(), optimizer, steps: 1, schedule: { type: "constant" } });
    };
    const [alone, together] = [await stepOf(unpacked(SAMPLES)), await stepOf(packed(SAMPLES))];
    expect(together.losses[0]).toBeCloseTo(alone.losses[0]!, 5);
    expect(worst(alone.weights, together.weights), "gradients").toBeLessThan(3e-6);
    using model = await open(family);
    using start = await Trainer.create({ model, data: packed(SAMPLES), adapter: full() });
    expect(worst(await trainedValues(start), alone.weights), "size of the gradients").toBeGreaterThan(1e-3);
  },
);

it.each(some(["gpt2", "gemma3_text", "phi3"] as const, 3))(
  "packed rows of %s train an adapter to the same weights, in parts, with accumulation and recomputation, in memory as planned",
  async (family) => {
    using model = await open(family);
    const alone = await train(model, { data: unpacked(SAMPLES) });
    const together = await train(model, { data: packed(SAMPLES) });
    const memory = { microBatch: 1, recompute: "layers" } as const;
    const split = await train(model, { data: packed(SAMPLES), memory });
    const shares = await train(model, { data: packed(SAMPLES, 2), accumulate: 2 });
    for (const other of [together, split, shares]) {
      expect(worst(alone.losses, other.losses)).toBeLessThan(1e-4);
      expect(worst(alone.weights, other.weights)).toBeLessThan(2e-3);
      expect(other.evaluation).toBeCloseTo(alone.evaluation, 3);
    }
    const { config } = model.model;
    const predicted = plan({ config, adapter: lora(), batch: 2, length: ROW, packing: true });
    using trainer = await Trainer.create({ model, adapter: lora(), data: packed(SAMPLES, 2) });
    expect(trainer.predictedBytes()).toEqual(predicted.bytes);
  },
);

it.each(EXPECTED.models)("transformers computes the same for packed rows of $model", async (expected) => {
  using model = await loadModel(engine, `test/${expected.model}`, { task: "generation" });
  const rows = EXPECTED.rows.map(({ ids, labels, lengths }): Sample => ({
    ids: Int32Array.from(ids),
    label: Int32Array.from(labels),
    segments: Int32Array.from(lengths.flatMap((length, i) => Array<number>(length).fill(i + 1))),
  }));
  const data = new Batches(rows, { size: 2, labels: "token", multiple: 1 });
  const optimizer = sgd({ learningRate: 1, maxGradNorm: 0 });
  const schedule = { type: "constant" } as const;
  using trainer = await Trainer.create({ model, adapter: full(), data, optimizer, schedule, steps: 1, dropout: false });
  const before = await trainer.snapshot();
  await trainer.train();
  expect(trainer.history.losses[0]).toBeCloseTo(expected.loss, 5);
  const after = await trainer.snapshot();
  for (const [name, norm] of Object.entries<number>(expected.gradients)) {
    const [old, now] = [before.get(name)!.data, after.get(name)!.data];
    const own = Math.sqrt(old.reduce((sum, value, i) => sum + (value - now[i]!) ** 2, 0));
    expect(Math.abs(own / norm - 1), name).toBeLessThan(1e-4);
  }
});

describe("a run on packed rows", () => {
  it("resumes to the same bits, and refuses rows that are not packed", async () => {
    using model = await open("llama");
    const directory = memoryDirectory("run");
    const options = (data: Batches): TrainerOptions => ({
      model,
      adapter: lora({ rank: 2, dropout: 0.2 }),
      data,
      steps: 7,
      seed: 3,
    });
    const ofWhole = async (): Promise<readonly number[]> => {
      using trainer = await Trainer.create(options(packed(SAMPLES, 2)));
      await trainer.train();
      return [...trainer.history.losses, ...(await trainedValues(trainer))];
    };
    const checkpoints = { directory, resume: true, every: 0 };
    {
      using trainer = await Trainer.create({ ...options(packed(SAMPLES, 2)), checkpoints });
      for await (const { step } of trainer.steps()) if (step === 3) break;
      await trainer.saveCheckpoint();
    }
    await failure(Trainer.create({ ...options(unpacked(SAMPLES, 2)), checkpoints }), DataError);
    using resumed = await Trainer.create({ ...options(packed(SAMPLES, 2)), checkpoints });
    await resumed.train();
    expect([...resumed.history.losses, ...(await trainedValues(resumed))]).toEqual(await ofWhole());
  });

  it("begins at the lowest layer that learns, with the bits of a run without a prefix cache", async () => {
    using model = await open("gpt2");
    const policy = fixed([{ beforeStep: 2, tensors: [...layerNames(0), "wte", "wpe"] }]);
    const plain = await train(model, { data: packed(SAMPLES, 2), policy, steps: 9 });
    const cached = await train(model, { data: packed(SAMPLES, 2), policy, steps: 9, prefixCache: true });
    expect(cached).toEqual(plain);
  });

  it("scores layers as unpacked texts do", async () => {
    using model = await open("gemma3_text");
    const scoresOf = async (data: Batches): Promise<unknown> => {
      const policy = safe({ every: 1, maxWarmup: 1, rampEnd: 2, targetFreezeFraction: 0.5, scores: "warmup" });
      using trainer = await Trainer.create({ model, adapter: lora(), data, policy, steps: 3, dropout: false });
      await trainer.train();
      return trainer.policyRecord();
    };
    const [alone, together] = [await scoresOf(unpacked(SAMPLES)), await scoresOf(packed(SAMPLES))];
    const rounded = (record: unknown): string =>
      JSON.stringify(record, (_, value: unknown) => (typeof value === "number" ? value.toFixed(3) : value));
    expect(rounded(together)).toBe(rounded(alone));
  });
});

it("safetape train --packing evaluates as without it, says what was packed, and refuses virtual tokens", async () => {
  const config = tiny.gpt2({ vocab_size: 340, n_positions: 64, n_layer: 2 });
  const model = await writeModel(path("gpt2"), config, { tokenizer: TOKENIZERS.gpt2 });
  const chats = Array.from({ length: 20 }, (_, i) => ({
    prompt: "the film is ",
    completion: "not boring ".repeat(1 + (i % 4)),
  }));
  for (const part of ["train", "dev"]) {
    writeFileSync(path(`${part}.jsonl`), chats.map((chat) => JSON.stringify(chat)).join("\n"));
  }
  const trained = (out: string, ...more: string[]) => {
    const data = ["--task", "chat", "--data", path(), "--max-length", "64", "--batch", "3", "--epochs", "1"];
    return runCli(["train", "--model", model, ...data, "--lr", "0", "--json", "--out", path(out), ...more]);
  };
  const lossOf = ({ stdout }: CliResult) => jsonLines<{ metrics?: { loss: number } }>(stdout).at(-1)!.metrics!.loss;
  const [alone, together] = [await trained("alone"), await trained("together", "--packing")];
  expect(together.code, together.stderr).toBe(0);
  expect(together.stderr).toMatch(/20 texts packed into \d rows, \d\d\.\d % of which are not padding/);
  expect(lossOf(together)).toBeCloseTo(lossOf(alone), 4);
  const refused = await trained("refused", "--packing", "--adapter", "prompt", "--tokens", "2");
  expect(refused.code).not.toBe(0);
  expect(refused.stderr).toMatch(/puts virtual tokens before rows, and not before each text/);
});

describe("packed rows are refused", () => {
  const rows = packSamples(tinySamples(6, { areTokens: true }), ROW);
  const data = new Batches(rows, { size: 2, labels: "token" });

  it.each<[Family, Config]>([
    ["bert", { architectures: ["BertForTokenClassification"], num_labels: 50 }],
    ["llama", { architectures: ["LlamaForSequenceClassification"] }],
  ])("by %s with another head", async (family, overrides) => {
    using model = await initialiseModel(engine, tiny[family](overrides));
    const error = await failure(Trainer.create({ model, adapter: lora(), data }), ConfigError);
    expect(error.message).toMatch(/Rows of several texts: this \w+ model \(\w+\) takes a row as one text/);
  });

  it("by virtual tokens", async () => {
    using model = await open("llama");
    const error = await failure(Trainer.create({ model, adapter: promptTuning({ tokens: 2 }), data }), ConfigError);
    expect(error.message).toMatch(/puts virtual tokens before rows/);
  });

  it("above the length at which a model turns all positions otherwise", async () => {
    const factors = Array<number>(4).fill(2);
    const scaling = { rope_type: "longrope", short_factor: factors, long_factor: factors };
    using model = await open("phi3", { rope_scaling: scaling, original_max_position_embeddings: 16 });
    const error = await failure(Trainer.create({ model, adapter: lora(), data }), ConfigError);
    expect(error.message).toMatch(/phi3 takes rows of more than 16 tokens as one long text/);
  });
});
