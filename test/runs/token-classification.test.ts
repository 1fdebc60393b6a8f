import { writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { loadAdapter, loadModel, lora, openDirectory, promptTuning, saveAdapter, saveModel, Trainer } from "safetape";
import { Batches, memoryDirectory } from "safetape/data";
import type { Batch, LoadedModel, Sample } from "safetape";
import { data, readBatches, readCase } from "../../scripts/golden-file";
import { adapterLogits } from "../../scripts/interop-case";
import { relativeError } from "../../src/base/relative-error";
import { IGNORED_LABEL } from "../../src/data/sample";
import { readFloatTensors } from "../../src/io/safetensors";
import { jsonLines, runCli } from "../support/cli";
import { useEngine } from "../support/engine";
import { useFolder } from "../support/folder";
import { readJson, parseJson } from "../support/json";
import { TOKENIZERS, writeModel } from "../support/model-folder";
import type { Config } from "../support/tiny";

const engine = await useEngine();
const path = useFolder();

const LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"];
const HEAD = { task: "token_classification", labelNames: LABELS } as const;

type Matrix = readonly (readonly number[])[];

/** x [n, in] times the transposed weight of a module, plus its bias if it has one, in float64. */
async function project(loaded: LoadedModel, module: string, x: Matrix): Promise<number[][]> {
  const weight = await loaded.weights.get(`${module}.weight`)!.read();
  const bias = await loaded.weights.get(`${module}.bias`)?.read();
  return x.map((row) =>
    Array.from({ length: weight.length / row.length }, (_, out) =>
      row.reduce((sum, value, i) => sum + value * weight[out * row.length + i]!, bias?.[out] ?? 0),
    ),
  );
}

/** The norm of a module without bias, in float64. */
async function layerNorm(loaded: LoadedModel, module: string, x: Matrix): Promise<number[][]> {
  const weight = await loaded.weights.get(`${module}.weight`)!.read();
  return x.map((row) => {
    const mean = row.reduce((sum, value) => sum + value, 0) / row.length;
    const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / row.length;
    return row.map((value, i) => ((value - mean) / Math.sqrt(variance + 1e-5)) * weight[i]!);
  });
}

/** GELU by Simpson's rule: x times the integral of the normal density up to x. */
function gelu(x: number): number {
  const steps = 200;
  const density = (t: number): number => Math.exp((-t * t) / 2) / Math.sqrt(2 * Math.PI);
  let sum = density(0) + density(x);
  for (let i = 1; i < steps; i++) sum += (i % 2 === 0 ? 2 : 4) * density((i * x) / steps);
  return x * (0.5 + (sum * x) / steps / 3);
}

/** -log softmax(scores)[label], in float64. */
function crossEntropy(scores: readonly number[], label: number): number {
  const largest = Math.max(...scores);
  return largest + Math.log(scores.reduce((sum, score) => sum + Math.exp(score - largest), 0)) - scores[label]!;
}

describe("token classification", () => {
  it.each([
    "golden/bert-lora",
    "golden/roberta-bitfit",
    "golden/xlm-roberta-lora",
    "golden/distilbert-lora",
    "golden/electra-lora",
    "golden/albert-lora",
    "golden/mpnet-lora",
    "golden-families/deberta-v3-lora",
    "golden-families/modernbert-lora",
  ])(
    "of %s has the loss that follows in float64 from its last hidden states, as the golden run has them",
    async (name) => {
      const directory = await openDirectory(`test/${name}`);
      using loaded = await loadModel(engine, directory, HEAD);
      expect(loaded.initialised.filter((tensor) => /^classifier\.(weight|bias)$/.test(tensor))).toHaveLength(2);
      const golden = await readCase(directory);
      const [first] = await readBatches(directory, golden, 0);
      const { size, length, attentionMask } = first!;
      // Every third token of a text has no label of its own.
      const labels = Int32Array.from(attentionMask, (counts, i) =>
        counts && i % 3 ? i % LABELS.length : IGNORED_LABEL,
      );
      const batch: Batch = { ...first!, labels };
      const hidden = data(
        await readFloatTensors(directory, "expected.safetensors"),
        `origin.${loaded.model.layers - 1}`,
      );
      const width = hidden.length / size / length;
      let x: number[][] = Array.from({ length: size * length }, (_, i) => [
        ...hidden.subarray(i * width, (i + 1) * width),
      ]);
      if (name.includes("modernbert")) {
        const inner = await project(loaded, "head.dense", await layerNorm(loaded, "model.final_norm", x));
        x = await layerNorm(
          loaded,
          "head.norm",
          inner.map((row) => row.map(gelu)),
        );
      }
      const scores = await project(loaded, "classifier", x);
      const counted = [...labels.keys()].filter((i) => labels[i] !== IGNORED_LABEL);
      const expected = counted.reduce((sum, i) => sum + crossEntropy(scores[i]!, labels[i]!), 0) / counted.length;
      const source = { perEpoch: 1, next: () => batch };
      using trainer = await Trainer.create({
        model: loaded,
        adapter: lora({ rank: 2 }),
        data: source,
        steps: 1,
        dropout: false,
      });
      const evaluation = await trainer.evaluate([batch]);
      expect(Math.abs(evaluation.loss / expected - 1), "relative error of the loss").toBeLessThan(5e-6);
      const best = (row: readonly number[]): number => row.indexOf(Math.max(...row));
      expect(evaluation.predictions).toEqual(counted.map((i) => best(scores[i]!)));
      expect([evaluation.count, evaluation.labels]).toEqual([counted.length, counted.map((i) => labels[i])]);
    },
  );

  const loadBase = (family: string): Promise<LoadedModel> =>
    loadModel(engine, `test/interop-data/${family}/base`, HEAD);

  /** Texts whose tokens have the class that follows from their id. */
  const samples: Sample[] = Array.from({ length: 8 }, (_, row) => {
    const ids = Int32Array.from({ length: 6 + (row % 3) }, (__, i) => 10 + ((row * 7 + i * 5) % 60));
    return { ids, label: ids.map((id) => id % 3) };
  });

  it.each(["bert", "distilbert", "modernbert"])(
    "learns with %s, and its adapter is saved for TOKEN_CLS",
    async (family) => {
      using loaded = await loadBase(family);
      const source = new Batches(samples, { size: 8, padId: loaded.model.padId, labels: "token" });
      const optimizer = { learningRate: 3e-2 };
      using trainer = await Trainer.create({
        model: loaded,
        adapter: lora({ rank: 4 }),
        data: source,
        steps: 20,
        optimizer,
      });
      const { losses } = await trainer.train();
      expect(losses.at(-1)).toBeLessThan(0.6 * losses[0]!);
      const folder = memoryDirectory("adapter");
      await saveAdapter(folder, trainer);
      const config = parseJson<Config>(new TextDecoder().decode(await folder.read("adapter_config.json")));
      expect(config).toMatchObject({ task_type: "TOKEN_CLS", modules_to_save: ["classifier"] });
      const { adapter, tensors } = await loadAdapter(folder, loaded);
      expect([...tensors.keys()]).toContain("classifier.weight");
      const batch = source.next();
      const { data: again } = await adapterLogits(loaded, adapter, tensors, batch);
      const { data: trained } = await adapterLogits(loaded, adapter, await trainer.state.snapshot(), batch);
      expect(relativeError(again, trained)).toBe(0);
    },
  );

  it("does not classify the virtual tokens of a prompt", async () => {
    using loaded = await loadBase("bert");
    const adapter = promptTuning({ tokens: 3 });
    const batch = new Batches(samples, { size: 2, padId: 0, labels: "token", shuffle: false }).next();
    const source = { perEpoch: 1, next: () => batch };
    using trainer = await Trainer.create({ model: loaded, adapter, data: source, steps: 1, dropout: false });
    const { data: logits } = await adapterLogits(loaded, adapter, await trainer.state.snapshot(), batch);
    const at = (i: number): number[] => {
      const position = Math.floor(i / batch.length) * (batch.length + 3) + 3 + (i % batch.length);
      return [...logits.subarray(position * LABELS.length, (position + 1) * LABELS.length)];
    };
    const counted = [...batch.labels.keys()].filter((i) => batch.labels[i] !== IGNORED_LABEL);
    const expected = counted.reduce((sum, i) => sum + crossEntropy(at(i), batch.labels[i]!), 0) / counted.length;
    const { loss, predictions } = await trainer.evaluate([batch]);
    expect(loss).toBeCloseTo(expected, 5);
    expect(predictions).toEqual(counted.map((i) => at(i).indexOf(Math.max(...at(i)))));
  });

  it("has its labels' names in the configuration that is saved, and keeps their order", async () => {
    using loaded = await loadBase("electra");
    const folder = memoryDirectory("saved");
    await saveModel(folder, loaded);
    const config = parseJson<Config>(new TextDecoder().decode(await folder.read("config.json")));
    expect(config).toMatchObject({
      architectures: ["ElectraForTokenClassification"],
      id2label: { 0: "O", 4: "I-LOC" },
      label2id: { O: 0, "I-LOC": 4 },
    });
    using again = await loadModel(engine, folder, { ...HEAD, labelNames: ["B-LOC", "O"] });
    expect([again.model.classes, again.initialised, again.unused]).toEqual([5, [], []]);
  });
});

it("safetape train learns CoNLL files, and keeps the adapter with the best F1 of entities", async () => {
  const words: readonly (readonly [string, string])[] = [
    ["film", "B-PER"],
    ["brilliant", "I-PER"],
    ["the", "O"],
    ["plot", "B-LOC"],
    ["is", "O"],
    ["slow", "O"],
  ];
  const conll = (count: number): string =>
    Array.from({ length: count }, (_, row) =>
      Array.from({ length: 5 }, (__, i) => words[(row * 5 + i * (1 + (row % 2))) % words.length]!.join(" X ")).join(
        "\n",
      ),
    ).join("\n\n");
  writeFileSync(path("train.txt"), `-DOCSTART- X O\n\n${conll(24)}\n`);
  writeFileSync(path("valid.txt"), conll(6));
  const config = readJson<Config>("examples/model/config.json");
  const sizes = { hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 32 };
  const model = await writeModel(
    path("model"),
    { ...config, ...sizes, initializer_range: 0.1 },
    { tokenizer: TOKENIZERS.example, seed: 2 },
  );
  const out = path("out");
  const args = ["--model", model, "--task", "ner", "--data", path(), "--out", out, "--adapter", "lora"];
  const run = ["--epochs", "6", "--batch", "8", "--lr", "0.02", "--max-length", "16", "--eval-every", "9", "--json"];
  const result = await runCli(["train", ...args, ...run, "--long-sentences", "window"]);
  expect(result.code, result.stderr).toBe(0);
  interface Evaluated {
    readonly metrics: Readonly<Record<string, number>>;
  }
  const { metrics } = jsonLines<Evaluated>(result.stdout).at(-1)!;
  expect(Object.keys(metrics).slice(0, 5)).toEqual(["f1", "precision", "recall", "accuracy", "f1_LOC"]);
  const record = readJson<{ readonly evaluations: readonly Evaluated[] }>(path("out", "run.json"));
  const best = Math.max(...record.evaluations.map((evaluation) => evaluation.metrics["f1"]!));
  expect(metrics["f1"], "the best of all evaluations").toBeGreaterThanOrEqual(best);
  expect(metrics["f1"], "F1, where a word's tag always follows from the word").toBeGreaterThan(0.9);
});
