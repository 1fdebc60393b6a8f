import { describe, expect, it } from "vitest";
import { full, initialiseModel, loadModel, lora, saveModel, Trainer } from "safetape";
import { MaskedBatches, makeBatch, memoryDirectory } from "safetape/data";
import { ConfigError, DataError } from "safetape/engine";
import type { Batch, LoadedModel } from "safetape";
import { elements } from "../../src/base/shape";
import { readFloatTensors } from "../../src/io/safetensors";
import { createModel, withHead } from "../../src/model/families";
import { openDirectory } from "../../src/node/directory";
import { gradientName } from "../../src/train/tensors/names";
import expected from "../interop/masked-lm.json";
import { wholeCheckpoint } from "../support/checkpoints";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { readJson } from "../support/json";
import { tiny } from "../support/tiny";
import type { Config } from "../support/tiny";

const engine = await useEngine();

const MASKED = { task: "masked_lm" } as const;
const SPECIAL = { maskId: 4, specialIds: [2, 3, 4], vocabularySize: 83 };

/** Values as test/interop/masked-lm.py makes them. */
function sines(name: string, count: number): Float32Array {
  const phase = [...name].reduce((sum, letter) => sum + letter.charCodeAt(0), 0);
  return Float32Array.from({ length: count }, (_, i) => 0.5 * Math.sin(0.7 * i + phase));
}

/** The rows of the file, with what they predict. */
function rows(padId: number): Batch {
  const samples = expected.rows.map((row, i) => ({
    ids: Int32Array.from(row),
    label: Int32Array.from(expected.labels[i]!),
  }));
  const batch = makeBatch(samples, { size: 2, length: 9, targetLength: 2, padId, labels: "target" });
  const predicted = new Int32Array(4);
  expected.predicted.forEach((positions, row) => predicted.set(positions, 2 * row));
  return { ...batch, predicted };
}

async function loadWithSines(family: string, names: readonly string[]): Promise<LoadedModel> {
  const folder = `test/interop-data/${family}/base`;
  const config = readJson<Config>(`${folder}/config.json`);
  const stored = await readFloatTensors(await openDirectory(folder), "model.safetensors");
  const { parameters } = createModel(withHead(config, MASKED));
  const added = names.map((name) => {
    const { shape } = parameters.find((parameter) => parameter.name === name)!;
    return { name, shape, data: sines(name, elements(shape)) };
  });
  const tensors = [...stored].map(([name, tensor]) => ({ name, ...tensor }));
  return loadModel(engine, await wholeCheckpoint(config, [...tensors, ...added]), MASKED);
}

/** Texts of several lengths, without special tokens. */
const texts = (count: number) =>
  Array.from({ length: count }, (_, row) => ({
    ids: Int32Array.from({ length: 8 + ((row * 5) % 9) }, (_, i) => (i === 0 ? 2 : 10 + ((row + 2 * i) % 24))),
  }));

describe("transformers' masked language models in float64", () => {
  it.each(expected.cases)("$family: logits, loss and all gradients", async (golden) => {
    using loaded = await loadWithSines(golden.family, golden.new);
    expect(loaded.initialised).toEqual([]);
    const batch = rows(loaded.model.padId);
    const data = { perEpoch: 1, next: () => batch };
    using trainer = await Trainer.create({ model: loaded, adapter: full(), data, steps: 1, dropout: false });
    let logits = new Float32Array();
    const evaluation = await trainer.evaluate([batch], (_, values) => (logits = values.slice()));
    const right = golden.logits.flat();
    const largest = right.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    // The second row predicts one token, and the other is padding.
    const error = right.reduce((most, value, i) => Math.max(most, Math.abs(value - logits[i]!)), 0);
    expect(error / largest, "logits").toBeLessThan(1e-5);
    expect(evaluation.count).toBe(3);
    expect(Math.abs(evaluation.loss / golden.loss - 1), "loss").toBeLessThan(1e-6);
    const best = golden.logits.map((row) => row.indexOf(Math.max(...row)));
    expect(evaluation).toMatchObject({ predictions: best, labels: expected.labels.flat() });
    for await (const { loss, bytes, planned } of trainer.steps()) {
      expect(Math.abs(loss / golden.loss - 1), "loss of the step").toBeLessThan(1e-6);
      expect(bytes, "ledger against plan").toEqual(planned);
    }
    expect(loaded.model.parameters.map(({ name }) => name).sort()).toEqual(Object.keys(golden.gradients).sort());
    // Those of keys' biases are 0 but for rounding.
    const floor = 1e-3 * Math.max(...Object.values(golden.gradients).map(([length]) => length!));
    for (const [name, [length, product]] of Object.entries(golden.gradients)) {
      const gradient = await trainer.state.tensor(gradientName(name)).read();
      const pattern = sines(`${name}.pattern`, gradient.length);
      const along = gradient.reduce((sum, value, i) => sum + value * pattern[i]!, 0);
      const scale = Math.max(length!, floor);
      expect(Math.abs(Math.hypot(...gradient) - length!) / scale, `length of d${name}`).toBeLessThan(1e-4);
      expect(Math.abs(along - product!) / scale / Math.hypot(...pattern), `d${name}`).toBeLessThan(1e-5);
    }
  });
});

describe("masks", () => {
  const batches = (seed: number, count = 6) =>
    new MaskedBatches(texts(count), { ...SPECIAL, size: 3, seed, probability: 0.3 });

  it("hide tokens of texts alone, as many as the probability says, and differ from epoch to epoch", () => {
    const source = batches(1);
    const epochs = Array.from({ length: 2 }, () => [...source.restOfEpoch()]);
    for (const batch of epochs.flat()) {
      const { size, length, targetLength = 0, predicted, labels, inputIds, attentionMask } = batch;
      for (let row = 0; row < size; row++) {
        const at = [...labels.subarray(row * targetLength, (row + 1) * targetLength)].flatMap((label, i) =>
          label === -100 ? [] : [predicted![row * targetLength + i]!],
        );
        const tokens = attentionMask.subarray(row * length, (row + 1) * length).reduce((sum, one) => sum + one, 0);
        expect(at).toHaveLength(Math.round(0.3 * (tokens - 1)));
        expect(at).toEqual([...new Set(at)].sort((a, b) => a - b));
        expect(
          at.every((token) => token > 0 && token < tokens),
          "within the text, and not its first",
        ).toBe(true);
        expect(inputIds[row * length], "the special token stays").toBe(2);
      }
    }
    const positions = ([first]: readonly Batch[]) => [...first!.predicted!];
    expect(positions(epochs[0]!)).not.toEqual(positions(epochs[1]!));
  });

  it("replace eight of ten by the mask token, one by a random one, and leave one", () => {
    const samples = Array.from({ length: 50 }, () => ({ ids: new Int32Array(100).fill(50) }));
    const [batch] = new MaskedBatches(samples, { ...SPECIAL, size: 50, probability: 0.5 }).restOfEpoch();
    const hidden = [...batch!.predicted!].map((at, i) => batch!.inputIds[Math.floor(i / 50) * 100 + at]);
    const share = (isOne: (id: number | undefined) => boolean): number => hidden.filter(isOne).length / hidden.length;
    expect(hidden).toHaveLength(2500);
    expect(Math.abs(share((id) => id === 4) - 0.8)).toBeLessThan(0.03);
    expect(Math.abs(share((id) => id === 50) - 0.1)).toBeLessThan(0.02);
    expect(batch!.inputIds.filter((id) => id !== 50)).toHaveLength(hidden.filter((id) => id !== 50).length);
  });

  it("are the same after a resumed position", () => {
    const [one, other] = [batches(3), batches(3)];
    for (let i = 0; i < 3; i++) one.next();
    other.resume(structuredClone(one.save()));
    expect(other.next()).toEqual(one.next());
    expect(batches(4).next()).not.toEqual(batches(3).next());
  });

  it("are refused where there is nothing to hide, and for probabilities that are none", async () => {
    const empty = await failure(
      () => new MaskedBatches([{ ids: Int32Array.of(2, 3) }], { ...SPECIAL, size: 1 }),
      DataError,
    );
    expect(empty.message).toContain("sample 1 has no tokens but special ones");
    const options = { ...SPECIAL, size: 1, probability: 0 };
    expect((await failure(() => new MaskedBatches(texts(1), options), DataError)).message).toContain("probability 0");
  });
});

describe("masked language modelling", () => {
  const config = withHead({ ...tiny.bert({ vocab_size: 83 }), initializer_range: 0.2 }, MASKED);
  const data = () => new MaskedBatches(texts(16), { ...SPECIAL, size: 8, seed: 5 });

  it("learns from scratch, split into micro-batches, and resumes to the same bits", async () => {
    const options = {
      adapter: full(),
      steps: 8,
      optimizer: { learningRate: 3e-3 },
      memory: { microBatch: 4, recompute: "layers" },
    } as const;
    const run = async (directory = memoryDirectory("checkpoints"), stopAfter = Infinity, resume = false) => {
      using model = await initialiseModel(engine, config);
      const checkpoints = { directory, every: 4, resume };
      using trainer = await Trainer.create({ ...options, model, data: data(), checkpoints });
      const losses: number[] = [];
      for await (const { loss, bytes, planned, step } of trainer.steps()) {
        expect(bytes, "ledger against plan").toEqual(planned);
        losses.push(loss);
        if (step === stopAfter) break;
      }
      return losses;
    };
    const losses = await run();
    expect(losses.at(-1)).toBeLessThan(losses[0]! - 0.2);
    const directory = memoryDirectory("interrupted");
    await run(directory, 5);
    expect(await run(directory, Infinity, true)).toEqual(losses.slice(4));
  });

  it("keeps its task in what it saves, and gives its layers to other tasks", async () => {
    using model = await initialiseModel(engine, config);
    const folder = memoryDirectory("base");
    await saveModel(folder, model);
    using again = await loadModel(engine, folder);
    expect([again.model.task, again.initialised, again.unused]).toEqual(["masked_lm", [], []]);
    expect(again.model.config["architectures"]).toEqual(["BertForMaskedLM"]);
    using classifier = await loadModel(engine, folder, { task: "sequence_classification", labels: 3 });
    expect(classifier.model.config["safetape_task"]).toBeUndefined();
    expect(classifier.initialised.every((name) => /^(?:bert\.pooler|classifier)\./.test(name))).toBe(true);
    expect(classifier.unused.every((name) => name.startsWith("cls.predictions."))).toBe(true);
  });

  it("trains a head that a checkpoint lacks, with the adapter", async () => {
    using loaded = await loadModel(engine, "test/interop-data/bert/base", MASKED);
    expect([...loaded.model.heads].sort()).toEqual([
      "cls.predictions",
      "cls.predictions.transform.LayerNorm",
      "cls.predictions.transform.dense",
    ]);
    using trainer = await Trainer.create({ model: loaded, adapter: lora({ rank: 2 }), data: data(), steps: 1 });
    expect(trainer.state.specs.has("cls.predictions.bias")).toBe(true);
    await trainer.train();
  });

  it("is refused by name for families without such a head, untied tables and batches without masks", async () => {
    const deberta = await failure(() => createModel(withHead(tiny["deberta-v2"](), MASKED)), ConfigError);
    expect(deberta.message).toContain("Masked language modelling is not supported for deberta-v2.");
    const untied = { ...config, tie_word_embeddings: false };
    expect((await failure(() => createModel(untied), ConfigError)).message).toContain("tie_word_embeddings");
    using model = await initialiseModel(engine, config);
    const batch = makeBatch([{ ids: Int32Array.of(2, 9), label: 1 }], {
      size: 1,
      length: 2,
      padId: 0,
      labels: "class",
    });
    const options = { model, adapter: lora({ rank: 2 }), data: { perEpoch: 1, next: () => batch }, steps: 1 };
    const error = await failure(async () => {
      using trainer = await Trainer.create(options);
      await trainer.train();
    }, DataError);
    expect(error.message).toContain("without masked tokens");
  });
});
