import { describe, expect, it } from "vitest";
import {
  Batches,
  full,
  initialiseModel,
  loadModel,
  lora,
  loraPrune,
  memoryDirectory,
  saveModel,
  Trainer,
} from "safetape";
import { generate, WEIGHT_FORMATS } from "safetape";
import type { LoadedModel, Sample, TrainerOptions, WeightFormat } from "safetape";
import { Random } from "../../src/base/random";
import { useEngine } from "../support/engine";

const SIZES = { hidden_size: 24, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 70 };
const CONFIGS: Readonly<Record<string, Record<string, unknown>>> = {
  bert: { ...SIZES, model_type: "bert", vocab_size: 51, max_position_embeddings: 32, num_labels: 2 },
  gpt2: { model_type: "gpt2", vocab_size: 51, n_positions: 32, n_embd: 24, n_layer: 2, n_head: 2, n_inner: 70 },
  llama: {
    ...SIZES,
    model_type: "llama",
    vocab_size: 51,
    num_key_value_heads: 1,
    max_position_embeddings: 32,
    architectures: ["LlamaForCausalLM"],
  },
};
const PACKED = WEIGHT_FORMATS.filter((format) => format !== "f32");

const engine = await useEngine();

function options(model: LoadedModel, more: Partial<TrainerOptions> = {}): TrainerOptions {
  const random = new Random(1);
  const isText = model.model.task === "causal_lm";
  const samples: Sample[] = Array.from({ length: 8 }, () => {
    const ids = Int32Array.from({ length: 5 + random.below(10) }, () => 2 + random.below(48));
    return { ids, label: isText ? ids : ids[0]! % 2 };
  });
  const data = new Batches(samples, { size: 4, maxLength: 16, multiple: 16, labels: isText ? "token" : "class" });
  const adapter = lora({ rank: 2, dropout: 0.1, targets: "all-linear" });
  return { model, adapter, data, steps: 3, optimizer: { learningRate: 1e-2 }, seed: 4, ...more };
}

async function losses(model: LoadedModel, more: Partial<TrainerOptions> = {}): Promise<number[]> {
  using trainer = await Trainer.create(options(model, more));
  const found: number[] = [];
  for await (const { loss, bytes } of trainer.steps()) {
    expect(bytes, "ledger against plan").toEqual(trainer.predictedBytes());
    found.push(loss);
  }
  return found;
}

describe.each(Object.entries(CONFIGS))("%s", (_, config) => {
  it.each(PACKED)("in %s trains as the f32 model that its weights stand for", async (weights) => {
    const files = memoryDirectory("model");
    let found: number[];
    let bytes: number;
    {
      using packed = await initialiseModel(engine, config, { weights });
      bytes = engine.ledger.liveBytes;
      await saveModel(files, packed);
      found = await losses(packed);
      expect(await losses(packed, { recompute: "layers" }), "the same bits with layers run again").toEqual(found);
    }
    using whole = await loadModel(engine, files);
    expect(bytes, "bytes of the packed model").toBeLessThan(0.75 * engine.ledger.liveBytes);
    const wanted = await losses(whole);
    found.forEach((loss, i) => expect(loss, `step ${i + 1}`).toBeCloseTo(wanted[i]!, 5));
  });

  it.each(PACKED)("is loaded from a checkpoint into %s", async (weights) => {
    const files = memoryDirectory("model");
    {
      using model = await initialiseModel(engine, config);
      await saveModel(files, model);
    }
    using found = await loadModel(engine, files, { weights });
    const formats = new Set([...found.weights.values()].map(({ dtype }) => dtype));
    expect(formats.has(weights)).toBe(true);
    expect(formats.has("f32"), "norms and biases").toBe(true);
  });
});

it("generates from packed weights", async () => {
  const told = async (weights: WeightFormat): Promise<readonly number[]> => {
    using model = await initialiseModel(engine, CONFIGS["gpt2"] ?? {}, { weights });
    const [text] = await generate(model, [[3, 4, 5]], { maxNewTokens: 6, endIds: [] });
    return text?.ids ?? [];
  };
  expect(await told("bf16")).toHaveLength(6);
});

describe("what packed weights cannot do", () => {
  it("learn", async () => {
    using model = await initialiseModel(engine, CONFIGS["bert"] ?? {}, { weights: "int8" });
    const before = engine.ledger.liveBytes;
    await expect(Trainer.create(options(model, { adapter: full() }))).rejects.toThrow(/trains .* which is stored as/);
    expect(engine.ledger.liveBytes).toBe(before);
  });

  it("be pruned by LoRAPrune", async () => {
    using model = await initialiseModel(engine, CONFIGS["bert"] ?? {}, { weights: "nf4" });
    await expect(Trainer.create(options(model, { policy: loraPrune() }))).rejects.toThrow(/reads the weights as f32/);
  });
});

it.each([Number.NaN, Infinity])("refuses a checkpoint with %f, and takes no memory", async (value) => {
  const files = memoryDirectory("model");
  {
    using model = await initialiseModel(engine, CONFIGS["bert"] ?? {});
    const name = "bert.encoder.layer.1.intermediate.dense.weight";
    const data = await model.weights.get(name)!.read();
    data[5] = value;
    model.weights.get(name)?.write(data);
    await saveModel(files, model);
  }
  for (const weights of ["f32", "nf4"] as const) {
    await expect(loadModel(engine, files, { weights })).rejects.toThrow(/layer\.1\.intermediate.* as its element 5/);
    expect(engine.ledger.liveBytes).toBe(0);
  }
});
