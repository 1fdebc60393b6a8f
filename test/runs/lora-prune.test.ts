import { describe, expect, it } from "vitest";
import { Batches, initialiseModel, loadModel, lora, loraPrune, memoryDirectory } from "safetape";
import { saveAdapter, saveMerged, sora, Trainer } from "safetape";
import type { LoadedModel, Sample, TrainerOptions } from "safetape";
import { outputMaskName } from "../../src/adapter/masked";
import { Random } from "../../src/base/random";
import { useEngine } from "../support/engine";

const SHARED = { vocab_size: 50, num_labels: 2, pad_token_id: 0 };
const CONFIGS = {
  bert: {
    model_type: "bert",
    hidden_size: 16,
    num_hidden_layers: 3,
    num_attention_heads: 4,
    intermediate_size: 24,
    max_position_embeddings: 32,
    architectures: ["BertForSequenceClassification"],
  },
  gpt2: {
    model_type: "gpt2",
    n_embd: 16,
    n_layer: 3,
    n_head: 4,
    n_inner: 24,
    n_positions: 32,
    architectures: ["GPT2ForSequenceClassification"],
  },
  llama: {
    model_type: "llama",
    hidden_size: 16,
    intermediate_size: 24,
    num_hidden_layers: 3,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    max_position_embeddings: 32,
    architectures: ["LlamaForSequenceClassification"],
  },
} as const;

const random = new Random(1);
const SAMPLES: readonly Sample[] = Array.from({ length: 16 }, () => {
  const ids = Int32Array.from({ length: 5 + random.below(10) }, () => 2 + random.below(48));
  return { ids, label: ids[1]! % 2 };
});

const engine = await useEngine();

function options(model: LoadedModel, more: Partial<TrainerOptions> = {}): TrainerOptions {
  const data = new Batches(SAMPLES, { size: 4, seed: 3, maxLength: 16, multiple: 16 });
  const adapter = lora({ rank: 2, alpha: 4, targets: "all-linear" });
  const policy = loraPrune({ every: 2, ratio: 0.5, warmupShare: 0.1, finalShare: 0.1 });
  return { model, adapter, policy, data, steps: 10, optimizer: { learningRate: 1e-2 }, seed: 5, ...more };
}

describe.each(Object.entries(CONFIGS))("LoRAPrune on %s", (_, config) => {
  it("masks half of the heads and neurons of all layers but the last, and what saveMerged writes gives the same logits", async () => {
    using model = await initialiseModel(engine, { ...SHARED, ...config });
    using trainer = await Trainer.create(options(model));
    expect(engine.ledger.live, "ledger against plan").toEqual(trainer.predictedBytes());
    await trainer.train();
    expect(engine.ledger.live, "ledger against plan").toEqual(trainer.predictedBytes());
    const tensors = await trainer.state.snapshot();
    const masked = [...tensors].filter(([name]) => name.endsWith("output_mask"));
    expect(
      masked.every(([name]) => /\.[01]\./.test(name)),
      "all layers but the last",
    ).toBe(true);
    for (const [name, { data }] of masked) {
      expect(data.filter((value) => value === 0).length, name).toBe(data.length / 2);
    }
    const batches = () => new Batches(SAMPLES, { size: 4, shuffle: false }).restOfEpoch();
    const logits: number[] = [];
    const { loss } = await trainer.evaluate(batches(), (_batch, found) => logits.push(...found));
    const folder = memoryDirectory("merged");
    await saveMerged(folder, trainer);
    await expect(saveAdapter(memoryDirectory("adapter"), trainer)).rejects.toThrow(/saveMerged/);
    using pruned = await loadModel(engine, folder);
    const [structure] = pruned.model.structures(1);
    const name = structure?.outputs[0]?.projection ?? "";
    const bias = await pruned.weights.get(`${name}.bias`)?.read();
    const mask = tensors.get(outputMaskName(name))?.data;
    bias?.forEach((value, i) => expect(mask?.[i] === 0 && value !== 0, `bias ${i} of a masked output`).toBe(false));
    using plain = await Trainer.create({ ...options(pruned), policy: undefined!, steps: 1 });
    const again: number[] = [];
    const other = await plain.evaluate(batches(), (_batch, found) => again.push(...found));
    expect(other.loss).toBeCloseTo(loss, 5);
    again.forEach((value, i) => expect(value).toBeCloseTo(logits[i]!, 4));
  });
});

it("refuses an adapter that is no LoRA", async () => {
  using model = await initialiseModel(engine, { ...SHARED, ...CONFIGS.bert });
  await expect(Trainer.create(options(model, { adapter: sora() }))).rejects.toThrow(/judges by LoRA's gradients/);
});
