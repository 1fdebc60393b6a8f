import { describe, expect, it } from "vitest";
import { lora, plan } from "safetape";
import type { ActivationFormat, Recompute, WeightFormat } from "safetape";
import { readJson } from "../support/json";
import type { Config } from "../support/tiny";

interface Target {
  readonly name: string;
  readonly batch: number;
  readonly length: number;
  readonly layers: number;
  readonly weights: WeightFormat;
  readonly activations?: ActivationFormat;
  readonly recompute: Recompute;
  /** Maximum GB of GPU memory with the adapters of no layer, of the lower half, and of the lowest 22 of 24 (29 of 32) frozen. */
  readonly maxGigabytes: readonly [number, number, number];
}

const BERT = { name: "bert-large", batch: 32, length: 128, layers: 24, weights: "f32" } as const;
const ROBERTA = { name: "roberta-large", batch: 16, length: 384, layers: 24, weights: "f32" } as const;
const GPT2 = { name: "gpt2-medium", batch: 8, length: 512, layers: 24, weights: "f32" } as const;
const LLAMA = { name: "llama-2-7b", batch: 2, length: 512, layers: 32 } as const;

/** Targets that this project set itself, well below the memory that PEFT uses for the same steps. */
const TARGETS: readonly Target[] = [
  { ...BERT, recompute: "none", maxGigabytes: [5.7, 3.6, 1.9] },
  { ...BERT, recompute: "mlp", maxGigabytes: [4.2, 2.9, 1.8] },
  { ...ROBERTA, recompute: "none", maxGigabytes: [7.9, 4.8, 2.3] },
  { ...ROBERTA, recompute: "mlp", maxGigabytes: [5.5, 3.6, 2.1] },
  { ...GPT2, recompute: "none", maxGigabytes: [6.5, 4.2, 2.4] },
  { ...GPT2, recompute: "mlp", maxGigabytes: [4.6, 3.2, 2.2] },
  { ...LLAMA, weights: "f16", recompute: "none", maxGigabytes: [20.5, 17.3, 14.7] },
  { ...LLAMA, weights: "f16", activations: "f16", recompute: "none", maxGigabytes: [17.3, 15.5, 14.2] },
  { ...LLAMA, weights: "nf4", recompute: "layers", maxGigabytes: [5.4, 5.1, 4.9] },
];

describe("planned peaks of the papers' models, LoRA of rank 4", () => {
  it.each(TARGETS)("$name, $weights weights, activations $activations, recompute $recompute", (target) => {
    const config = readJson<Config>(`bench/configs/${target.name}.json`);
    const { batch, length, weights, activations = "f32", recompute, layers, maxGigabytes } = target;
    const request = { config, adapter: lora({ rank: 4 }), batch, length, weights, activations, recompute };
    const frozenBelow = [0, layers / 2, layers === 24 ? 22 : 29];
    frozenBelow.forEach((freezeBelow, i) => {
      const { peakBytes, flops } = plan({ ...request, freezeBelow });
      expect(peakBytes / 1e9, `GB with layers below ${freezeBelow} frozen`).toBeLessThanOrEqual(maxGigabytes[i]!);
      const share = flops.recompute / (flops.forward + flops.backward);
      if (recompute === "mlp") expect(share, "FLOPs of recomputation as a share of the others").toBeLessThan(0.18);
    });
  });
});
