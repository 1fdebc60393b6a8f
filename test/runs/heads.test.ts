import { describe, expect, it } from "vitest";
import { loadAdapter, loadModel, lora, openDirectory, promptTuning, saveAdapter, saveModel, Trainer } from "safetape";
import { Batches, ImageBatches, makeBatch, memoryDirectory } from "safetape/data";
import type { Batch, Directory, HeadOptions, LoadedModel, Sample } from "safetape";
import { adapterLogits } from "../../scripts/interop-case";
import { Random } from "../../src/base/random";
import { readFloatTensors } from "../../src/io/safetensors";
import { safetensorsContent } from "../../src/io/safetensors-write";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { parseJson } from "../support/json";
import { relativeError } from "../../src/base/relative-error";
import type { Config } from "../support/tiny";

const TEXT_FAMILIES = ["bert", "roberta", "gpt2", "llama"] as const;
const ENCODERS = ["distilbert", "electra", "albert", "modernbert", "deberta-v3"] as const;
/** Modules of the checkpoints' heads, which question answering does not use; the head of GPT-2 is its embeddings. */
const STORED_HEADS = {
  bert: ["bert.pooler.dense", "classifier"],
  roberta: ["classifier.dense", "classifier.out_proj"],
  gpt2: [],
  llama: ["lm_head"],
  distilbert: ["classifier", "pre_classifier"],
  electra: ["classifier.dense", "classifier.out_proj"],
  albert: ["albert.pooler", "classifier"],
  // It finds answers by a projection of the same name, but for the number of labels.
  modernbert: ["classifier"],
  "deberta-v3": ["classifier", "pooler.dense"],
};
const DECODERS = ["gpt2", "llama"] as const;
const LENGTH = 12;

const engine = await useEngine();

const loadBase = (family: string, options: HeadOptions = {}): Promise<LoadedModel> =>
  loadModel(engine, `test/interop-data/${family}/base`, options);

/** Texts of several lengths, without the padding tokens of all families. */
function texts(count: number, label: (row: number) => number | Int32Array): Sample[] {
  const random = new Random(4);
  return Array.from({ length: count }, (_, row) => {
    const ids = Int32Array.from({ length: 5 + random.below(LENGTH - 4) }, () => 4 + random.below(70));
    return { ids, label: label(row) };
  });
}

const plain = lora({ rank: 2 });

async function logitsOf(loaded: LoadedModel, batch: Batch): Promise<Float32Array> {
  return (await adapterLogits(loaded, plain, new Map(), batch)).data;
}

/** -log softmax(scores)[label], in float64. */
function crossEntropy(scores: readonly number[], label: number): number {
  const largest = Math.max(...scores);
  const total = scores.reduce((sum, score) => sum + Math.exp(score - largest), 0);
  return largest + Math.log(total) - scores[label]!;
}

describe("question answering", () => {
  it.each([...TEXT_FAMILIES, ...ENCODERS])(
    "%s gets a new head, and its loss is the mean of two cross-entropies",
    async (family) => {
      using loaded = await loadBase(family, { task: "question_answering" });
      const head = family === "modernbert" ? "classifier" : "qa_outputs";
      expect(loaded.initialised).toEqual([`${head}.weight`, `${head}.bias`]);
      const modules = new Set(loaded.unused.map((name) => name.replace(/\.(weight|bias)$/, "")));
      expect([...modules], "the head of the checkpoint").toEqual(STORED_HEADS[family]);
      const samples = texts(3, (row) => Int32Array.of(row, row + 2));
      const batch = makeBatch(samples, { size: 4, length: LENGTH, padId: loaded.model.padId, labels: "span" });
      const logits = await logitsOf(loaded, batch);
      expect(logits.length).toBe(4 * LENGTH * 2);
      const scores = (row: number, end: 0 | 1): number[] =>
        Array.from({ length: LENGTH }, (_, token) => logits[(row * LENGTH + token) * 2 + end]!);
      const losses = [0, 1, 2].map(
        (row) => (crossEntropy(scores(row, 0), row) + crossEntropy(scores(row, 1), row + 2)) / 2,
      );
      const data = { perEpoch: 1, next: () => batch };
      using trainer = await Trainer.create({ model: loaded, adapter: plain, data, steps: 1, dropout: false });
      const { loss, count, predictions, labels } = await trainer.evaluate([batch]);
      expect(loss).toBeCloseTo(losses.reduce((sum, rowLoss) => sum + rowLoss, 0) / 3, 5);
      expect([count, labels]).toEqual([6, [0, 2, 1, 3, 2, 4]]);
      const largest = (values: readonly number[]): number => values.indexOf(Math.max(...values));
      expect(predictions).toEqual([0, 1, 2].flatMap((row) => [largest(scores(row, 0)), largest(scores(row, 1))]));
    },
  );

  it.each(["roberta", "llama"])(
    "%s learns to find a token, and its adapter is saved for QUESTION_ANS",
    async (family) => {
      using loaded = await loadBase(family, { task: "question_answering" });
      const samples = texts(8, (row) => Int32Array.of(1 + (row % 3), 2 + (row % 3))).map((sample, row) => {
        const ids = sample.ids.slice();
        ids.set([80, 81], 1 + (row % 3));
        return { ...sample, ids };
      });
      const data = new Batches(samples, { size: 8, padId: loaded.model.padId, labels: "span" });
      const optimizer = { learningRate: 3e-2 };
      using trainer = await Trainer.create({ model: loaded, adapter: lora({ rank: 4 }), data, steps: 20, optimizer });
      const losses: number[] = [];
      for await (const { loss } of trainer.steps()) losses.push(loss);
      expect(losses.at(-1)).toBeLessThan(0.5 * losses[0]!);
      const folder = memoryDirectory("adapter");
      await saveAdapter(folder, trainer);
      const config = await json(folder, "adapter_config.json");
      expect(config).toMatchObject({ task_type: "QUESTION_ANS", modules_to_save: ["qa_outputs"] });
      const { tensors } = await loadAdapter(folder, loaded);
      expect([...tensors.keys()]).toContain("qa_outputs.weight");
    },
  );
});

describe("question answering behind a prompt", () => {
  it.each(["bert", "llama"])("%s counts positions from the first token of the text", async (family) => {
    using loaded = await loadBase(family, { task: "question_answering" });
    const adapter = promptTuning({ tokens: 3 });
    const batch = makeBatch(
      texts(2, (row) => Int32Array.of(row, 2)),
      { size: 2, length: LENGTH, padId: loaded.model.padId, labels: "span" },
    );
    const data = { perEpoch: 1, next: () => batch };
    using trainer = await Trainer.create({ model: loaded, adapter, data, steps: 1, dropout: false });
    const { data: logits } = await adapterLogits(loaded, adapter, await trainer.state.snapshot(), batch);
    const length = LENGTH + 3;
    expect(logits.length).toBe(2 * length * 2);
    const scores = (row: number, end: 0 | 1): number[] =>
      Array.from({ length }, (_, token) => logits[(row * length + token) * 2 + end]!);
    const losses = [0, 1].map((row) => crossEntropy(scores(row, 0), row + 3) + crossEntropy(scores(row, 1), 2 + 3));
    const { loss, predictions, labels } = await trainer.evaluate([batch]);
    expect(loss).toBeCloseTo((losses[0]! + losses[1]!) / 4, 5);
    expect(labels).toEqual([0, 2, 1, 2]);
    for (const position of predictions) expect(position).toBeLessThan(LENGTH);
  });
});

describe("classification", () => {
  it.each(DECODERS)("by %s reads the last token that is not padding", async (family) => {
    using loaded = await loadBase(family, { task: "sequence_classification", labels: 3 });
    expect(loaded.initialised).toEqual(["score.weight"]);
    const samples = texts(3, () => 1);
    const batch = makeBatch(samples, { size: 4, length: LENGTH, padId: 0, labels: "class" });
    const logits = await logitsOf(loaded, batch);
    for (const [row, sample] of samples.entries()) {
      const alone = makeBatch([sample], { size: 1, length: sample.ids.length, padId: 0, labels: "class" });
      const error = relativeError(logits.subarray(row * 3, row * 3 + 3), await logitsOf(loaded, alone));
      expect(error, `row ${row} of a batch against the row alone`).toBeLessThan(2e-6);
    }
  });

  it.each(DECODERS)("by %s keeps the output of the last norm for that token alone", async (family) => {
    using loaded = await loadBase(family, { labels: 2 });
    const data = new Batches(
      texts(4, (row) => row % 2),
      { size: 4, padId: loaded.model.padId },
    );
    using trainer = await Trainer.create({ model: loaded, adapter: plain, data, steps: 1 });
    const kept = trainer.explain().kept.filter(({ label }) => /ln_f$|model\.norm$/.test(label));
    expect(kept.length).toBeGreaterThan(0);
    for (const { bytes } of kept) expect(bytes).toBeLessThanOrEqual(4 * loaded.model.hiddenSize * 4);
  });

  it.each(["bert", "gpt2"])("by %s with one label is a regression", async (family) => {
    using loaded = await loadBase(family, { task: "regression" });
    expect([loaded.model.task, loaded.model.classes]).toEqual(["regression", 1]);
    const samples = texts(4, (row) => row / 2);
    const data = new Batches(samples, { size: 4, padId: loaded.model.padId, labels: "value" });
    const optimizer = { learningRate: 1e-2 };
    using trainer = await Trainer.create({ model: loaded, adapter: plain, data, steps: 10, optimizer });
    const { losses } = await trainer.train();
    expect(losses.at(-1)).toBeLessThan(losses[0]!);
  });
});

describe("files", () => {
  it.each(TEXT_FAMILIES)("of %s with a new head are saved and loaded with that head", async (family) => {
    const folder = memoryDirectory("saved");
    const batch = makeBatch(
      texts(2, () => Int32Array.of(0, 1)),
      { size: 2, length: LENGTH, padId: 1, labels: "span" },
    );
    using first = await loadBase(family, { task: "question_answering" });
    await saveModel(folder, first);
    using second = await loadModel(engine, folder);
    expect([second.model.task, second.initialised, second.unused]).toEqual(["question_answering", [], []]);
    expect(relativeError(await logitsOf(second, batch), await logitsOf(first, batch))).toBe(0);
  });

  it.each(TEXT_FAMILIES)(
    "of %s without a head, a pooler and the prefix of the model's name get new ones, which an adapter contains",
    async (family) => {
      const stored = await openDirectory(`test/interop-data/${family}/base`);
      const prefix = /^(bert|roberta|transformer|model)\./;
      const tensors = [...(await readFloatTensors(stored, "model.safetensors"))]
        .filter(([name]) => prefix.test(name) && !name.includes("pooler"))
        .map(([name, tensor]) => ({ name: name.replace(prefix, ""), ...tensor }));
      const folder = memoryDirectory("bare");
      await folder.write("config.json", await stored.read("config.json"));
      await folder.write("model.safetensors", safetensorsContent(tensors));
      using loaded = await loadModel(engine, folder, { labels: 3 });
      expect(loaded.initialised.length).toBeGreaterThan(0);
      expect(loaded.initialised.every((name) => /^(classifier|score|bert\.pooler\.dense)\./.test(name))).toBe(true);
      expect(loaded.unused).toEqual([]);

      // Another seed makes other new parts, which the adapter brings along.
      const batch = makeBatch(
        texts(3, (row) => row),
        { size: 3, length: LENGTH, labels: "class", padId: loaded.model.padId },
      );
      const data = { perEpoch: 1, next: () => batch };
      using trainer = await Trainer.create({ model: loaded, adapter: plain, data, steps: 1 });
      await trainer.train();
      const saved = memoryDirectory("adapter");
      await saveAdapter(saved, trainer);
      const expected = await adapterLogits(loaded, plain, await trainer.state.snapshot(), batch);
      using other = await loadModel(engine, folder, { labels: 3, seed: 1 });
      const { adapter, tensors: adapted } = await loadAdapter(saved, other);
      const actual = await adapterLogits(other, adapter, adapted, batch);
      expect(relativeError(actual.data, expected.data)).toBe(0);
    },
  );

  it("cannot be loaded with a head that the family does not have", async () => {
    const causal = await failure(loadBase("bert", { task: "causal_lm" }));
    expect(causal.message).toMatch(/BertForCausalLM is not supported for bert/);
    const answers = await failure(loadBase("vit", { task: "question_answering" }));
    expect(answers.message).toMatch(/ForQuestionAnswering is not supported for vit/);
  });

  it.each([true, false])("of ViT are loaded by the names of transformers 5, with prefix: %s", async (isPrefixed) => {
    const stored = await openDirectory("test/interop-data/vit/base");
    using original = await loadModel(engine, stored);
    const tensors = [...(await readFloatTensors(stored, "model.safetensors"))].map(([name, tensor]) => {
      const [, module = name, part = ""] = /^(.+)(\.(?:weight|bias))$/.exec(name) ?? [];
      const newName = (original.model.renamed?.(module) ?? module) + part;
      return { name: isPrefixed ? newName : newName.replace(/^vit\./, ""), ...tensor };
    });
    expect(tensors.map(({ name }) => name.replace(/^vit\./, ""))).toContain("layers.1.attention.q_proj.weight");
    const folder = memoryDirectory("renamed");
    await folder.write("config.json", await stored.read("config.json"));
    await folder.write("model.safetensors", safetensorsContent(tensors));
    using renamed = await loadModel(engine, folder);
    const batch = images(original);
    expect(relativeError(await logitsOf(renamed, batch), await logitsOf(original, batch))).toBe(0);
  });

  it.each([4, 5] as const)(
    "of an adapter of ViT are written and read by the names of transformers %s",
    async (transformers) => {
      using loaded = await loadBase("vit");
      const data = { perEpoch: 1, next: () => images(loaded) };
      using trainer = await Trainer.create({ model: loaded, adapter: lora({ rank: 2 }), data, steps: 2 });
      await trainer.train();
      const folder = memoryDirectory("adapter");
      await saveAdapter(folder, trainer, { transformers });
      const names = [...(await readFloatTensors(folder, "adapter_model.safetensors")).keys()];
      const hasNewNames = names.some((name) => name.includes("vit.layers.0.attention.q_proj.lora_A"));
      expect(hasNewNames).toBe(transformers === 5);
      const { adapter, tensors } = await loadAdapter(folder, loaded);
      const { data: logits } = await adapterLogits(loaded, adapter, tensors, images(loaded));
      const { data: expected } = await adapterLogits(loaded, adapter, await trainer.state.snapshot(), images(loaded));
      expect(relativeError(logits, expected)).toBe(0);
    },
  );
});

function images(loaded: LoadedModel): Batch {
  const { size = 0, channels = 0 } = loaded.model.image ?? {};
  const random = new Random(8);
  const samples = [0, 1].map((label) => ({
    pixels: Float32Array.from({ length: channels * size * size }, () => random.normal()),
    label,
  }));
  return new ImageBatches(samples, loaded.model, { size: 2, shuffle: false }).next();
}

async function json(folder: Directory, file: string): Promise<Config> {
  return parseJson(new TextDecoder().decode(await folder.read(file)));
}
