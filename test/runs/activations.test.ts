import { describe, expect, it } from "vitest";
import { fixed, initialiseModel, lora, Trainer } from "safetape";
import type { ActivationFormat, LoadedModel, StepReport, TrainerOptions } from "safetape";
import { useEngine } from "../support/engine";
import { layerNames, ODD_SIZES, tiny, tinyData } from "../support/tiny";

const engine = await useEngine();

async function train(model: LoadedModel, options: Partial<TrainerOptions> = {}): Promise<StepReport[]> {
  const adapter = lora({ rank: 2, dropout: 0.1, targets: "all-linear" });
  const policy = fixed([{ beforeStep: 2, tensors: layerNames(0) }]);
  const data = tinyData(model);
  using trainer = await Trainer.create({ model, adapter, policy, data, steps: 3, seed: 4, ...options });
  const reports: StepReport[] = [];
  for await (const report of trainer.steps()) {
    expect(report.bytes, "ledger against plan").toEqual(trainer.predictedBytes());
    reports.push(report);
  }
  return reports;
}

describe.each(["bert", "gpt2", "llama"] as const)("activations of %s", (family) => {
  const config = tiny[family](ODD_SIZES);

  it.each([
    ["f16", 2e-3],
    ["bf16", 2e-2],
  ] as const)("kept as %s take half the bytes, and change gradients by rounding alone", async (activations, limit) => {
    using model = await initialiseModel(engine, config);
    const exact = await train(model);
    const packed = await train(model, { memory: { activations } });
    expect(packed[0]!.loss, "the forward pass is the same").toBe(exact[0]!.loss);
    const ratio = packed[0]!.bytes.saved / exact[0]!.bytes.saved;
    expect(ratio, "kept bytes").toBeGreaterThan(0.49);
    expect(ratio, "kept bytes").toBeLessThan(0.62);
    packed.forEach(({ gradientNorm, loss }, i) => {
      const expected = exact[i]!;
      expect(Math.abs(gradientNorm / expected.gradientNorm - 1), `gradient norm of step ${i + 1}`).toBeLessThan(limit);
      expect(Math.abs(loss - expected.loss), `loss of step ${i + 1}`).toBeLessThan(limit);
    });
    expect(packed.some(({ gradientNorm }, i) => gradientNorm !== exact[i]!.gradientNorm)).toBe(true);
  });

  it("can be packed together with recomputation and packed weights", async () => {
    using model = await initialiseModel(engine, config, { weights: "nf4" });
    const losses = async (activations: ActivationFormat) =>
      (await train(model, { memory: { activations, recompute: "layers" } })).map(({ loss }) => loss);
    const [exact, packed] = [await losses("f32"), await losses("bf16")];
    packed.forEach((loss, i) => expect(Math.abs(loss - exact[i]!)).toBeLessThan(2e-2));
    expect(packed[0]).toBe(exact[0]);
  });
});
