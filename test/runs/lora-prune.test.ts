import { describe, expect, it } from "vitest";
import { Batches, initialiseModel, loadModel, lora, loraPrune, memoryDirectory, never } from "safetape";
import { saveAdapter, saveMerged, sora, Trainer } from "safetape";
import type { LoadedModel, TrainerOptions } from "safetape";
import { outputMaskName } from "../../src/adapter/masked";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { tiny, tinySamples } from "../support/tiny";

const HEADS = { num_attention_heads: 4, intermediate_size: 24 };
const CONFIGS = {
  bert: tiny.bert(HEADS),
  gpt2: tiny.gpt2({ n_head: 4, n_inner: 24, num_labels: 2, architectures: ["GPT2ForSequenceClassification"] }),
  llama: tiny.llama({ ...HEADS, num_key_value_heads: 2, architectures: ["LlamaForSequenceClassification"] }),
};
const SAMPLES = tinySamples(16);

const engine = await useEngine();

function trainerOptions(model: LoadedModel, changes: Partial<TrainerOptions> = {}): TrainerOptions {
  const data = new Batches(SAMPLES, { size: 4, seed: 3, maxLength: 16, multiple: 16 });
  const adapter = lora({ rank: 2, alpha: 4, targets: "all-linear" });
  const policy = loraPrune({ every: 2, ratio: 0.5, warmupShare: 0.1, finalShare: 0.1 });
  return { model, adapter, policy, data, steps: 10, optimizer: { learningRate: 1e-2 }, seed: 5, ...changes };
}

describe.each(Object.entries(CONFIGS))("LoRAPrune on %s", (_, config) => {
  it("masks half of the heads and neurons in all layers but the last, and saveMerged writes a model with the same logits", async () => {
    using model = await initialiseModel(engine, config);
    using trainer = await Trainer.create(trainerOptions(model));
    expect(engine.ledger.live, "ledger against plan").toEqual(trainer.predictedBytes());
    await trainer.train();
    expect(engine.ledger.live, "ledger against plan").toEqual(trainer.predictedBytes());
    const tensors = await trainer.state.snapshot();
    const masked = [...tensors].filter(([name]) => name.endsWith("output_mask"));
    const sparesLastLayer = masked.every(([name]) => /\.[01]\./.test(name));
    expect(sparesLastLayer).toBe(true);
    for (const [name, { data }] of masked) {
      expect(data.filter((value) => value === 0).length, name).toBe(data.length / 2);
    }
    const batches = () => new Batches(SAMPLES, { size: 4, shuffle: false }).restOfEpoch();
    const logits: number[] = [];
    const { loss } = await trainer.evaluate(batches(), (_batch, values) => logits.push(...values));
    const folder = memoryDirectory("merged");
    await saveMerged(folder, trainer);
    expect((await failure(saveAdapter(memoryDirectory("adapter"), trainer))).message).toMatch(/saveMerged/);
    using pruned = await loadModel(engine, folder);
    const [structure] = pruned.model.structures(1);
    const name = structure?.outputs[0]?.projection ?? "";
    const mask = tensors.get(outputMaskName(name))!.data;
    const bias = pruned.weights.get(`${name}.bias`);
    // LLaMA has no biases.
    const biases = bias ? await bias.read() : new Float32Array(mask.length);
    mask.forEach((value, i) => {
      if (value === 0) expect(biases[i], `bias ${i} of a masked output`).toBe(0);
    });
    using plain = await Trainer.create(trainerOptions(pruned, { policy: never(), steps: 1 }));
    const prunedLogits: number[] = [];
    const evaluation = await plain.evaluate(batches(), (_batch, values) => prunedLogits.push(...values));
    expect(evaluation.loss).toBeCloseTo(loss, 5);
    prunedLogits.forEach((value, i) => expect(value).toBeCloseTo(logits[i]!, 4));
  });
});

it("LoRAPrune refuses an adapter other than LoRA", async () => {
  using model = await initialiseModel(engine, CONFIGS.bert);
  const error = await failure(Trainer.create(trainerOptions(model, { adapter: sora() })));
  expect(error.message).toMatch(/needs the gradients of LoRA/);
});
