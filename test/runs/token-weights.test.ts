import { writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { full, initialiseModel, loadModel, lora, openDirectory, promptTuning, Trainer } from "safetape";
import type { LoadedModel, Sample, TrainerOptions } from "safetape";
import {
  Batches,
  conversationSamples,
  loadTokenizer,
  memoryDirectory,
  packSamples,
  readConversations,
  weightedTokens,
} from "safetape/data";
import { ConfigError, DataError, sgd } from "safetape/engine";
import { gradientName } from "../../src/run/store";
import { jsonLines, runCli } from "../support/cli";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { useFolder } from "../support/folder";
import { readJson } from "../support/json";
import { TOKENIZERS, writeModel } from "../support/model-folder";
import { trainedValues } from "../support/tensors";
import { tiny, tinySamples } from "../support/tiny";
import { itLong } from "../support/long";

interface Reference {
  readonly rows: readonly Readonly<Record<"ids" | "labels" | "weights", readonly number[]>>[];
  readonly results: readonly {
    readonly model: string;
    readonly smoothing: number;
    readonly weight: number;
    readonly loss: number;
    readonly gradients: Readonly<Record<string, number>>;
  }[];
}

const engine = await useEngine();
const path = useFolder();
const { rows, results } = readJson<Reference>("test/interop/weights.json");

const norm = (values: Iterable<number>): number => Math.hypot(...values);

it.each(results)("the loss and the gradients of $model are PyTorch's, smoothing $smoothing", async (expected) => {
  using model = await loadModel(engine, `test/${expected.model}`, { task: "generation" });
  const samples = rows.map(({ ids, labels, weights }): Sample => ({
    ids: Int32Array.from(ids),
    label: Int32Array.from(labels),
    weights: Float32Array.from(weights),
  }));
  const data = new Batches(samples, { size: 2, labels: "token", shuffle: false });
  using trainer = await Trainer.create({
    model,
    data,
    adapter: full(),
    optimizer: sgd({ learningRate: 0.1 }),
    steps: 2,
    dropout: false,
    loss: weightedTokens({ labelSmoothing: expected.smoothing }),
  });
  const { loss, count } = await trainer.evaluate([new Batches(samples, { size: 2, labels: "token" }).next()]);
  expect(count).toBeCloseTo(expected.weight, 5);
  const plain = results.find(({ model: name, smoothing }) => name === expected.model && smoothing === 0)!;
  expect(Math.abs(loss - plain.loss), "evaluation does not smooth").toBeLessThan(5e-6);
  for await (const report of trainer.steps()) {
    expect(Math.abs(report.loss - expected.loss)).toBeLessThan(5e-6);
    break;
  }
  for (const [name, value] of Object.entries(expected.gradients)) {
    const gradient = await trainer.state.tensor(gradientName(name)).read();
    expect(Math.abs(norm(gradient) / value - 1), name).toBeLessThan(1e-4);
  }
});

const ROW = 32;

/** Texts whose labels have weights, some of them 0. */
const weighed = (count: number): Sample[] =>
  tinySamples(count, { areTokens: true }).map(({ ids, label }, i) => ({
    ids,
    label,
    weights: Float32Array.from(ids, (_, at) => [0.25, 1, 0, 2][(i + at) % 4]!),
  }));
const SAMPLES = weighed(10);
const batches = (samples: readonly Sample[], size: number): Batches =>
  new Batches(samples, { size, labels: "token", maxLength: ROW, multiple: 16 });

async function train(model: LoadedModel, options: Partial<TrainerOptions> & Pick<TrainerOptions, "data">) {
  const adapter = lora({ rank: 2, targets: "all-linear" });
  const loss = weightedTokens();
  using trainer = await Trainer.create({ model, adapter, steps: 3, seed: 3, dropout: false, loss, ...options });
  for await (const report of trainer.steps()) {
    expect(report.bytes, "ledger against plan").toEqual(trainer.predictedBytes());
  }
  const samples = trainer.options.loss ? SAMPLES : SAMPLES.map(({ ids, label }) => ({ ids, label }));
  const evaluation = await trainer.evaluate(batches(samples, 3).restOfEpoch());
  return { losses: [...trainer.history.losses], weights: await trainedValues(trainer), evaluation };
}

const worst = (a: readonly number[], b: readonly number[]): number =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));

describe("weights of tokens", () => {
  it("give the same in complete batches, packed rows, micro-batches and accumulated ones", async () => {
    using model = await initialiseModel(engine, tiny.llama());
    const complete = await train(model, { data: batches(SAMPLES, 10) });
    const packed = packSamples(SAMPLES, ROW);
    const others = {
      packed: await train(model, { data: batches(packed, packed.length) }),
      split: await train(model, { data: batches(SAMPLES, 10), memory: { microBatch: 3 } }),
      accumulated: await train(model, { data: batches(SAMPLES, 2), accumulate: 5 }),
    };
    const start = (await train(model, { data: batches(SAMPLES, 10), steps: 1 })).losses[0]!;
    for (const [name, other] of Object.entries(others)) {
      expect(Math.abs(other.losses[0]! - start), name).toBeLessThan(1e-5);
      expect(worst(complete.losses, other.losses), name).toBeLessThan(1e-4);
      expect(worst(complete.weights, other.weights), name).toBeLessThan(2e-3);
      expect(other.evaluation.loss, name).toBeCloseTo(complete.evaluation.loss, 3);
      expect(other.evaluation.count, name).toBe(complete.evaluation.count);
    }
  });

  it("are relations: equal ones train as none, and 0 is a label that is ignored", async () => {
    using model = await initialiseModel(engine, tiny.llama());
    const changed = (change: (sample: Sample) => Sample) => batches(SAMPLES.map(change), 10);
    const plain = await train(model, { data: changed(({ ids, label }) => ({ ids, label })), loss: undefined });
    const halves = await train(model, {
      data: changed(({ ids, label }) => ({ ids, label, weights: new Float32Array(ids.length).fill(0.125) })),
    });
    expect(worst(plain.losses, halves.losses)).toBeLessThan(1e-5);
    expect(worst(plain.weights, halves.weights)).toBeLessThan(1e-3);
    const isCounted = (at: number): boolean => at % 3 === 1;
    const ignored = await train(model, {
      data: changed(({ ids }) => ({ ids, label: ids.map((id, at) => (isCounted(at) ? id : -100)) })),
      loss: undefined,
    });
    const zero = await train(model, {
      data: changed(({ ids }) => ({
        ids,
        label: ids,
        weights: Float32Array.from(ids, (_, at) => Number(isCounted(at))),
      })),
    });
    expect(worst(ignored.losses, zero.losses)).toBeLessThan(1e-5);
    expect(Math.abs(ignored.losses[0]! - plain.losses[0]!)).toBeGreaterThan(1e-3);
  });

  it("count the first token behind virtual tokens", async () => {
    using model = await initialiseModel(engine, tiny.llama());
    const { ids } = SAMPLES[0]!;
    const weights = Float32Array.from(ids, (_, at) => (at === 0 ? 4 : 0.5));
    const data = batches([{ ids, label: ids, weights }], 1);
    using trainer = await Trainer.create({
      model,
      data,
      adapter: promptTuning({ tokens: 3 }),
      loss: weightedTokens(),
    });
    const { count } = await trainer.evaluate([data.next()]);
    expect(count).toBe(4 + (ids.length - 1) / 2);
  });

  it("resume to the same bits, and only with the same weights", async () => {
    using model = await initialiseModel(engine, tiny.llama());
    const directory = memoryDirectory("run");
    const options = (samples: readonly Sample[]): TrainerOptions => ({
      model,
      adapter: lora({ rank: 2 }),
      data: batches(samples, 5),
      loss: weightedTokens(),
      steps: 3,
    });
    using complete = await Trainer.create(options(SAMPLES));
    await complete.train();
    using first = await Trainer.create(options(SAMPLES));
    for await (const { step } of first.steps()) {
      if (step === 2) break;
    }
    await first.saveCheckpoint(directory);
    const checkpoints = { resume: directory };
    using resumed = await Trainer.create({ ...options(SAMPLES), checkpoints });
    await resumed.train();
    expect(await trainedValues(resumed)).toEqual(await trainedValues(complete));
    const others = SAMPLES.map((sample) => ({ ...sample, weights: sample.weights!.map((weight) => weight + 1) }));
    expect((await failure(Trainer.create({ ...options(others), checkpoints }))).message).toMatch(/data.first/);
  });

  it("are refused where nothing reads them, and where they say nothing", async () => {
    using model = await initialiseModel(engine, tiny.llama());
    const adapter = lora({ rank: 2 });
    using trainer = await Trainer.create({ model, adapter, data: batches(SAMPLES, 2) });
    const plain = await failure(trainer.train());
    expect(plain).toBeInstanceOf(DataError);
    expect(plain.message).toMatch(/weighs its tokens.*weightedTokens\(\) of safetape\/data/s);
    const classifier = await initialiseModel(engine, tiny.bert());
    const classes = new Batches(tinySamples(4), { size: 2 });
    const wrong = await failure(Trainer.create({ model: classifier, adapter, data: classes, loss: weightedTokens() }));
    expect(wrong).toBeInstanceOf(ConfigError);
    classifier.dispose();
    expect(() => weightedTokens({ labelSmoothing: 1 })).toThrow(ConfigError);
    const { ids, label } = SAMPLES[0]!;
    expect(() => batches([{ ids, label, weights: new Float32Array(ids.length + 1) }], 1).next()).toThrow(DataError);
    const negative = batches([{ ids, label, weights: new Float32Array(ids.length).fill(-1) }], 1);
    using negated = await Trainer.create({ model, adapter, data: batches(SAMPLES, 2), loss: weightedTokens() });
    expect((await failure(negated.evaluate([negative.next()]))).message).toMatch(/weight -1/);
  });
});

itLong("safetape train and its evaluation weigh the messages of a chat, with label smoothing", async () => {
  const config = tiny.gpt2({ vocab_size: 340, n_positions: 64, n_layer: 2, architectures: ["GPT2LMHeadModel"] });
  const model = await writeModel(path("gpt2"), config, { tokenizer: TOKENIZERS.gpt2 });
  const write = (...weights: readonly number[]): void => {
    const said = (content: string) => ({ role: "user", content });
    const answered = (content: string, i: number) => ({ role: "assistant", content, weight: weights[i]! });
    const messages = [said("film"), answered("not boring, not good", 0), said("and?"), answered("good", 1)];
    for (const part of ["train", "dev"]) writeFileSync(path(`${part}.jsonl`), JSON.stringify({ messages }));
  };
  const lossWith = async (...weights: readonly number[]): Promise<number> => {
    write(...weights);
    const data = [
      "--task",
      "chat",
      "--data",
      path(),
      "--max-length",
      "64",
      "--epochs",
      "1",
      "--label-smoothing",
      "0.1",
    ];
    const run = ["train", "--model", model, ...data, "--lr", "0", "--json", "--overwrite", "--out", path("out")];
    const { code, stdout, stderr } = await runCli(run);
    expect(code, stderr).toBe(0);
    const events = jsonLines<{ loss?: number; metrics?: { loss: number } }>(stdout);
    const { loss } = events.at(-1)!.metrics!;
    // What is trained on is what is evaluated on, but for the smoothing of the training loss.
    expect(events.some((event) => event.loss !== undefined && Math.abs(event.loss - loss) < 0.1)).toBe(true);
    return loss;
  };
  const folder = await openDirectory(path());
  const tokenizer = await loadTokenizer(model);
  const tokensOf = async (...weights: readonly number[]): Promise<number> => {
    write(...weights);
    const [sample] = conversationSamples(await readConversations(folder, "dev.jsonl"), tokenizer).samples;
    // Samples of texts have a label for each token.
    return [...(sample!.label as Int32Array)].filter((label) => label >= 0).length;
  };
  const [first, second] = [await tokensOf(1, 0), await tokensOf(0, 1)];
  const expected = (0.25 * first * (await lossWith(1, 0)) + second * (await lossWith(0, 1))) / (0.25 * first + second);
  expect(await lossWith(0.25, 1)).toBeCloseTo(expected, 4);
});
