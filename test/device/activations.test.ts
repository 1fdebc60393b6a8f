import { describe, expect, it } from "vitest";
import { Batches, fixed, initialiseModel, lora, Trainer } from "safetape";
import type { ActivationFormat, LoadedModel, Sample, StepReport, TrainerOptions } from "safetape";
import { Random } from "../../src/base/random";
import { useEngine } from "../support/engine";

const SIZES = { hidden_size: 24, num_hidden_layers: 3, num_attention_heads: 2, intermediate_size: 70 };
const CONFIGS: Readonly<Record<string, Record<string, unknown>>> = {
  bert: { ...SIZES, model_type: "bert", vocab_size: 51, max_position_embeddings: 32, num_labels: 2 },
  gpt2: { model_type: "gpt2", vocab_size: 51, n_positions: 32, n_embd: 24, n_layer: 3, n_head: 2, n_inner: 70 },
  llama: {
    ...SIZES,
    model_type: "llama",
    vocab_size: 51,
    num_key_value_heads: 1,
    max_position_embeddings: 32,
    architectures: ["LlamaForCausalLM"],
  },
};

const engine = await useEngine();

async function run(model: LoadedModel, more: Partial<TrainerOptions>): Promise<StepReport[]> {
  const random = new Random(1);
  const isText = model.model.task === "causal_lm";
  const samples: Sample[] = Array.from({ length: 8 }, () => {
    const ids = Int32Array.from({ length: 5 + random.below(10) }, () => 2 + random.below(48));
    return { ids, label: isText ? ids : ids[0]! % 2 };
  });
  const data = new Batches(samples, { size: 4, maxLength: 16, multiple: 16, labels: isText ? "token" : "class" });
  const adapter = lora({ rank: 2, dropout: 0.1, targets: "all-linear" });
  const policy = fixed([{ beforeStep: 2, tensors: ["layer.0.", "layers.0.", "h.0."] }]);
  using trainer = await Trainer.create({ model, adapter, policy, data, steps: 3, seed: 4, ...more });
  const reports: StepReport[] = [];
  for await (const report of trainer.steps()) {
    expect(report.bytes, "ledger against plan").toEqual(trainer.predictedBytes());
    reports.push(report);
  }
  return reports;
}

describe.each(Object.entries(CONFIGS))("activations of %s", (_, config) => {
  it.each([
    ["f16", 2e-3],
    ["bf16", 2e-2],
  ] as const)("kept as %s take half, and change gradients by their rounding alone", async (activations, limit) => {
    using model = await initialiseModel(engine, config);
    const plain = await run(model, {});
    const packed = await run(model, { activations });
    expect(packed[0]?.loss, "the forward pass is the same").toBe(plain[0]?.loss);
    const ratio = (packed[0]?.bytes.saved ?? 0) / (plain[0]?.bytes.saved ?? 1);
    expect(ratio, "kept bytes").toBeGreaterThan(0.49);
    expect(ratio, "kept bytes").toBeLessThan(0.62);
    packed.forEach(({ gradientNorm, loss }, i) => {
      const wanted = plain[i]!;
      expect(Math.abs(gradientNorm / wanted.gradientNorm - 1), `gradient norm of step ${i + 1}`).toBeLessThan(limit);
      expect(Math.abs(loss - wanted.loss), `loss of step ${i + 1}`).toBeLessThan(limit);
    });
    expect(packed.some(({ gradientNorm }, i) => gradientNorm !== plain[i]?.gradientNorm)).toBe(true);
  });

  it("go together with recomputation and packed weights", async () => {
    using model = await initialiseModel(engine, config, { weights: "nf4" });
    const losses = async (activations: ActivationFormat) =>
      (await run(model, { activations, recompute: "layers" })).map(({ loss }) => loss);
    const [plain, packed] = [await losses("f32"), await losses("bf16")];
    packed.forEach((loss, i) => expect(Math.abs(loss - plain[i]!)).toBeLessThan(2e-2));
    expect(packed[0]).toBe(plain[0]);
  });
});
