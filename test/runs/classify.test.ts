import { writeFileSync } from "node:fs";
import { encode } from "fast-png";
import { describe, expect, it } from "vitest";
import { classify, initialiseModel, loadAdapter, loadModel, lora, promptTuning, saveAdapter, Trainer } from "safetape";
import { ImageBatches, memoryDirectory } from "safetape/data";
import { ConfigError, DataError, sumBytes } from "safetape/engine";
import type { Adapter, Batch, Directory, LoadedModel } from "safetape";
import { classifyCommand } from "../../src/cli/classify";
import { CLASSIFY } from "../../src/cli/flags";
import { UsageError, withFallbacks } from "../../src/cli/options";
import type { RawOptions } from "../../src/cli/options";
import { loadTokenizer } from "../../src/data/tokenizer";
import { openDirectory } from "../../src/node/directory";
import { executorBytes } from "../../src/run/footprint";
import { classificationPlan } from "../../src/train/classify";
import { weightBytes } from "../../src/train/plans/footprint";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { useFolder } from "../support/folder";
import { parseJson } from "../support/json";
import { writeModel } from "../support/model-folder";
import { tiny, tinyData } from "../support/tiny";

const engine = await useEngine();

/** Trains for some steps and saves. @returns the directory, and each row's probabilities by the trainer's own evaluation. */
async function trained(model: LoadedModel, adapter: Adapter, batches: readonly Batch[]) {
  using trainer = await Trainer.create({
    model,
    adapter,
    data: tinyData(model),
    steps: 4,
    optimizer: { learningRate: 0.05 },
  });
  await trainer.train();
  const expected: number[][] = [];
  await trainer.evaluate(batches, ({ rows }, logits) => {
    const classes = model.model.classes;
    for (let row = 0; row < rows; row++) {
      const exponentials = [...logits.subarray(row * classes, (row + 1) * classes)].map(Math.exp);
      const sum = exponentials.reduce((a, b) => a + b);
      expected.push(exponentials.map((value) => value / sum));
    }
  });
  const directory: Directory = memoryDirectory("adapter");
  await saveAdapter(directory, trainer);
  return { directory, expected };
}

const sizes = [
  ["texts, with LoRA", tiny.bert({ num_labels: 3 }), () => lora({ rank: 2 })],
  ["texts, with virtual tokens", tiny.bert(), () => promptTuning({ tokens: 3 })],
  ["a decoder's texts", tiny.gpt2({ architectures: ["GPT2ForSequenceClassification"] }), () => lora({ rank: 2 })],
  ["images", tiny.vit(), () => lora({ rank: 2 })],
] as const;

describe("classify", () => {
  it.each(sizes)("gives the probabilities of the trained model: %s", async (_, config, makeAdapter) => {
    using model = await initialiseModel(engine, config);
    const batches = [...tinyData(model, 3).restOfEpoch()];
    const { directory, expected } = await trained(model, makeAdapter(), batches);
    const results = await classify(model, batches, { adapter: directory });
    expect(results).toHaveLength(8);
    for (const [row, { label, name, probability, probabilities }] of results.entries()) {
      probabilities.forEach((value, i) => expect(value).toBeCloseTo(expected[row]![i]!, 5));
      expect(probability).toBe(Math.max(...probabilities));
      expect(probabilities[label]).toBe(probability);
      expect(name).toBe(`LABEL_${label}`);
      expect(probabilities.reduce((a, b) => a + b)).toBeCloseTo(1, 6);
    }
    expect(await classify(model, batches, { adapter: await loadAdapter(directory, model) })).toEqual(results);
    expect(await classify(model, batches), "without the adapter").not.toEqual(results);
  });

  it("holds weights, the adapter and one forward pass, as planned", async () => {
    using model = await initialiseModel(engine, tiny.bert());
    const data = tinyData(model);
    const { directory } = await trained(model, lora({ rank: 2 }), []);
    const { adapter, tensors } = await loadAdapter(directory, model);
    const adapterBytes = [...tensors.values()].reduce((sum, { data: { byteLength } }) => sum + byteLength, 0);
    const held: unknown[] = [];
    function* watched(): Generator<Batch> {
      const batches = [data.next(), data.next()];
      for (const batch of batches) {
        yield batch;
        // Asked for the next one, while the plan of this one is held.
        const { saved, scratch } = executorBytes([classificationPlan(model, adapter, batch)]);
        expect(saved).toBe(0);
        held.push([engine.ledger.live, { weight: weightBytes(model.model) + adapterBytes, state: 0, saved, scratch }]);
      }
    }
    await classify(model, watched(), { adapter: { adapter, tensors } });
    expect(held).toHaveLength(2);
    for (const [ledger, planned] of held as [object, object][]) expect(ledger).toEqual(planned); // pushed as pairs above
    expect(engine.ledger.liveBytes).toBe(weightBytes(model.model));
    expect(sumBytes(engine.ledger.live)).toBe(weightBytes(model.model));
  });

  it("reads texts and pairs of texts, in batches and alone, with names of classes", async () => {
    const directory = await openDirectory("examples/model");
    using model = await loadModel(engine, directory);
    const tokenizer = await loadTokenizer(directory);
    const texts = ["a warm and funny film", "dull", ["the plot is bad", "the end is worse"]] as const;
    const together = await classify(model, texts, { tokenizer });
    const [alone] = await classify(model, texts.slice(1, 2), { tokenizer, batchSize: 1 });
    expect(together.map(({ name }) => name).every((name) => ["negative", "positive"].includes(name))).toBe(true);
    expect(together[1]!.probability).toBeCloseTo(alone!.probability, 5);
    expect(await classify(model, [], { tokenizer })).toEqual([]);
    expect((await failure(() => classify(model, ["a"]), ConfigError)).message).toMatch(
      /no tokenizer\.\nGive the model's/,
    );
    expect((await failure(() => classify(model, [""], { tokenizer: noTokens }), DataError)).fact).toMatch(
      /text 1 has no tokens/,
    );
  });

  it("is refused for heads that give no class of a row, and for texts where images are read", async () => {
    {
      using model = await initialiseModel(engine, tiny.gpt2());
      const error = await failure(() => classify(model, []), ConfigError);
      expect(error.message).toMatch(/^This gpt2 model's head is for causal_lm.*\nLoad it with/);
    }
    using model = await initialiseModel(engine, tiny.vit());
    expect((await failure(() => classify(model, ["a cat"]), ConfigError)).fact).toMatch(/vit model reads images/);
    const samples = [{ pixels: new Float32Array(64).fill(NaN), label: 0 }];
    const batches = new ImageBatches(samples, model.model, { size: 1 }).restOfEpoch();
    expect((await failure(() => classify(model, batches))).message).toMatch(/logit of row 1 is NaN/);
  });

  it("returns the adapter's memory where a batch is wrong", async () => {
    using model = await initialiseModel(engine, tiny.bert());
    const { directory } = await trained(model, lora({ rank: 2 }), []);
    const [batch] = [tinyData(model).next()];
    const wrong = { ...batch, inputIds: batch.inputIds.map(() => 999) };
    const before = engine.ledger.liveBytes;
    expect((await failure(() => classify(model, [wrong], { adapter: directory }), DataError)).fact).toMatch(/999/);
    expect(engine.ledger.liveBytes).toBe(before);
  });
});

describe("safetape classify", () => {
  const path = useFolder();

  /** The lines that the command prints. */
  async function lines(files: readonly string[], given: RawOptions): Promise<Record<string, unknown>[]> {
    const printed: string[] = [];
    const raw = withFallbacks(CLASSIFY, { quiet: true, ...given });
    await classifyCommand(files, raw, (line) => void printed.push(line));
    return printed.map((line) => parseJson(line));
  }

  it("prints a line for each text of --text and of files", async () => {
    writeFileSync(path("texts.txt"), "dull\n\nthe plot is bad\tthe end is worse\n");
    const given = { model: "examples/model", text: ["a warm and funny film"] };
    const all = await lines([path("texts.txt")], given);
    expect(all.map(({ text }) => text)).toEqual(["a warm and funny film", "dull", "the plot is bad\tthe end is worse"]);
    for (const line of all) {
      expect(Object.keys(line)).toEqual(["text", "label", "name", "probability", "probabilities"]);
      expect(["negative", "positive"]).toContain(line["name"]);
    }
    const none = await failure(() => lines([], { model: "examples/model" }), UsageError);
    expect(none.message).toMatch(/There are no texts\.\nGive --text/);
    const random = await failure(() => lines([], { ...given, labels: "3" }), UsageError);
    expect(random.message).toMatch(
      /lacks classifier\.weight, classifier\.bias, which would be random\.\nGive the --adapter/,
    );
  });

  it("prints a line for each image, with the names of an adapter's classes", async () => {
    const folder = await writeModel(path("vit"), tiny.vit({ num_channels: 3 }));
    writeFileSync(path("vit", "preprocessor_config.json"), JSON.stringify({ size: 8 }));
    {
      using model = await initialiseModel(engine, tiny.vit({ num_channels: 3, num_labels: 3 }));
      const samples = [{ pixels: new Float32Array(192), label: 2 }];
      const data = new ImageBatches(samples, model.model, { size: 1 });
      using trainer = await Trainer.create({ model, adapter: lora({ rank: 2 }), data, steps: 1 });
      await trainer.train();
      await saveAdapter(await openDirectory(path("adapter"), { create: true }), trainer);
    }
    const image = path("image.png");
    writeFileSync(image, encode({ width: 8, height: 8, data: new Uint8Array(192).fill(90), channels: 3 }));
    const given = { model: folder, adapter: path("adapter"), labels: "cat,dog,bird" };
    const [line] = await lines([image, image], given);
    expect(line!["file"]).toBe(image);
    expect(["cat", "dog", "bird"]).toContain(line!["name"]);
    expect(line!["probabilities"]).toHaveLength(3);
    const text = await failure(() => lines([], { ...given, text: "a cat" }), UsageError);
    expect(text.fact).toMatch(/vit model reads images/);
  });
});

const noTokens = { encode: () => ({ ids: new Int32Array(), typeIds: new Int32Array(), removed: 0 }) } as never; // no more is read
