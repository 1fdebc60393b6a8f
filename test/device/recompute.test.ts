import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  Batches,
  Engine,
  fixed,
  ImageBatches,
  initialiseModel,
  lora,
  MemoryBudgetError,
  sumBytes,
  Trainer,
} from "safetape";
import type { LoadedModel, Recompute, Sample, StepReport, TrainerOptions } from "safetape";
import { Random } from "../../src/base/random";
import { testDevice } from "../support/device";

const TEXT = { vocab_size: 50, max_position_embeddings: 32, num_labels: 2, pad_token_id: 0 };
const BERT_SIZES = { hidden_size: 16, num_hidden_layers: 3, num_attention_heads: 2, intermediate_size: 48 };
const CONFIGS: Readonly<Record<string, Record<string, unknown>>> = {
  bert: { ...TEXT, ...BERT_SIZES, model_type: "bert" },
  roberta: { ...TEXT, ...BERT_SIZES, model_type: "roberta", pad_token_id: 1 },
  gpt2: { model_type: "gpt2", vocab_size: 50, n_positions: 32, n_embd: 16, n_layer: 3, n_head: 2 },
  llama: { ...TEXT, ...BERT_SIZES, model_type: "llama", num_key_value_heads: 1, architectures: ["LlamaForCausalLM"] },
  vit: {
    ...{ ...BERT_SIZES, model_type: "vit", image_size: 8, patch_size: 4, num_channels: 1, num_labels: 2 },
    ...{ hidden_dropout_prob: 0.1 },
  },
};

let engine: Engine;
beforeEach(async () => {
  engine = new Engine(await testDevice());
});
afterEach(() => {
  expect(engine.ledger.liveBytes, "bytes left in the ledger").toBe(0);
  engine.dispose();
});

function dataOf({ model }: LoadedModel): TrainerOptions["data"] {
  const random = new Random(1);
  if (model.image) {
    const pixels = (): Float32Array => Float32Array.from({ length: 64 }, () => random.normal());
    const samples = Array.from({ length: 8 }, (_, i) => ({ pixels: pixels(), label: i % 2 }));
    return new ImageBatches(samples, model, { size: 4 });
  }
  const samples: Sample[] = Array.from({ length: 8 }, () => {
    const ids = Int32Array.from({ length: 5 + random.below(10) }, () => 2 + random.below(48));
    return { ids, label: model.task === "causal_lm" ? ids : (ids[0] as number) % 2 };
  });
  const labels = model.task === "causal_lm" ? ("token" as const) : ("class" as const);
  return new Batches(samples, { size: 4, maxLength: 16, multiple: 16, labels });
}

interface Run {
  readonly reports: readonly StepReport[];
  readonly weights: readonly number[];
  readonly saved: number;
  readonly peak: number;
}

/** Four steps with dropout; the adapter of layer 0 freezes after two. */
async function run(model: LoadedModel, recompute: Recompute): Promise<Run> {
  const policy = fixed([{ beforeStep: 2, tensors: ["layer.0.", "layers.0.", "h.0."] }]);
  const adapter = lora({ rank: 2, dropout: 0.2, targets: "all-linear" });
  const options = { model, adapter, policy, recompute, data: dataOf(model), steps: 4, accumulate: 2, seed: 3 };
  using trainer = await Trainer.create(options);
  const peak = engine.ledger.liveBytes;
  const reports: StepReport[] = [];
  for await (const report of trainer.steps()) {
    expect(report.bytes, "ledger against plan").toEqual(trainer.predictedBytes());
    reports.push(report);
  }
  const weights = [...(await trainer.state.snapshot()).values()].flatMap(({ data }) => [...data]);
  return { reports, weights, saved: reports[0]?.bytes.saved ?? 0, peak };
}

describe.each(Object.entries(CONFIGS))("recomputing %s", (_, config) => {
  it("gives the very bits, with dropout, accumulation and a freeze, and keeps less", async () => {
    using model = await initialiseModel(engine, config);
    const plain = await run(model, "none");
    const mlp = await run(model, "mlp");
    const layers = await run(model, "layers");
    for (const [name, other] of Object.entries({ mlp, layers })) {
      expect(
        other.reports.map(({ loss }) => loss),
        name,
      ).toEqual(plain.reports.map(({ loss }) => loss));
      expect(other.weights, name).toEqual(plain.weights);
      expect(other.reports[0]?.flops, name).toBeGreaterThan(plain.reports[0]?.flops ?? Infinity);
    }
    expect(mlp.saved, "kept with the feed-forwards run again").toBeLessThan(plain.saved);
    expect(layers.saved, "kept with whole layers run again").toBeLessThan(mlp.saved);
  });

  it("fits a number of bytes, with no more than that needs", async () => {
    using model = await initialiseModel(engine, config);
    const plain = await run(model, "none");
    const layers = await run(model, "layers");
    const middle = Math.round((plain.peak + layers.peak) / 2);
    const fitted = await run(model, middle);
    expect(fitted.peak).toBeLessThanOrEqual(middle);
    expect(fitted.peak).toBeGreaterThan(layers.peak);
    expect(fitted.weights).toEqual(plain.weights);
    expect((await run(model, plain.peak)).saved, "nothing is run again where everything fits").toBe(plain.saved);
  });
});

it("refuses a budget below what whole layers need, and names the least", async () => {
  using model = await initialiseModel(engine, CONFIGS["bert"] ?? {});
  const before = engine.ledger.liveBytes;
  const failure = run(model, 1000).catch((error: unknown) => error);
  const error = (await failure) as MemoryBudgetError;
  expect(error).toBeInstanceOf(MemoryBudgetError);
  expect(engine.ledger.liveBytes, "bytes after the refusal").toBe(before);
  const fitted = await run(model, error.neededBytes);
  expect(sumBytes(fitted.reports[0]?.bytes as never)).toBeLessThanOrEqual(error.neededBytes);
});
