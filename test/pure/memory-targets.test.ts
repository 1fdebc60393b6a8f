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
  /** Maximum GB of GPU memory with the adapters of no layer, of the lower half, and of all but the top two (LLaMA: three) frozen. */
  readonly maxGigabytes: readonly [number, number, number];
}

const BERT = { name: "bert-large", batch: 32, length: 128, layers: 24, weights: "f32" } as const;
const ROBERTA = { name: "roberta-large", batch: 16, length: 384, layers: 24, weights: "f32" } as const;
const GPT2 = { name: "gpt2-medium", batch: 8, length: 512, layers: 24, weights: "f32" } as const;
const LLAMA = { name: "llama-2-7b", batch: 2, length: 512, layers: 32 } as const;
/** It is to fit on a GPU of 24 GB, and in NF4 on one of 8 GB. */
const FLAN_T5 = { name: "flan-t5-xl", batch: 16, length: 128, layers: 48 } as const;

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
  { ...FLAN_T5, weights: "f16", recompute: "none", maxGigabytes: [24, 13, 6.7] },
  { ...FLAN_T5, weights: "nf4", recompute: "layers", maxGigabytes: [8, 2.8, 2.4] },
];

describe("planned peaks, LoRA of rank 4", () => {
  it.each(TARGETS)("$name, $weights weights, activations $activations, recompute $recompute", (target) => {
    const config = readJson<Config>(`bench/configs/${target.name}.json`);
    const { batch, length, weights, activations = "f32", recompute, layers, maxGigabytes } = target;
    const request = { config, adapter: lora({ rank: 4 }), batch, length, weights, memory: { activations, recompute } };
    const frozenBelow = [0, layers / 2, layers - (target.name === LLAMA.name ? 3 : 2)];
    frozenBelow.forEach((freezeBelow, i) => {
      const { peakBytes, flops } = plan({ ...request, freezeBelow });
      expect(peakBytes / 1e9, `GB with layers below ${freezeBelow} frozen`).toBeLessThanOrEqual(maxGigabytes[i]!);
      const share = flops.recompute / (flops.forward + flops.backward);
      if (recompute === "mlp") expect(share, "FLOPs of recomputation as a share of the others").toBeLessThan(0.18);
    });
  });
});

/** A row of bench/results/peft-saved.json, which bench/peft-saved.py counts on PyTorch's meta device. */
interface PeftRow {
  readonly name: string;
  readonly batch: number;
  readonly length: number | null;
  readonly dtype: string;
  readonly adapterDtype: string;
  readonly frozenLayers: number;
  readonly savedBytes: number;
}

describe("what a LoRA step in 16 bits keeps, beside PEFT's with the better of eager and fused attention", () => {
  const { results } = readJson<{ readonly results: readonly PeftRow[] }>("bench/results/peft-saved.json");
  const rows = results.filter(({ dtype, adapterDtype }) => dtype === "float16" && adapterDtype === "float16");

  // One of each family. `npm run bench:plans` compares all models, and f32.
  it.each(["llama-3.2-1b", "gemma-3-270m", "flan-t5-base", "deberta-v3-base", "modernbert-base", "swin-base"])(
    "%s",
    (name) => {
      const config = readJson<Config>(`bench/configs/${name}.json`);
      const theirs = rows.filter((row) => row.name === name);
      const shares = [...new Set(theirs.map(({ frozenLayers }) => frozenLayers))];
      expect(shares).toHaveLength(3);
      for (const freezeBelow of shares) {
        const [row, ...others] = theirs.filter(({ frozenLayers }) => frozenLayers === freezeBelow);
        const { batch, length } = row!;
        const adapter = lora({ rank: 4, dropout: 0.1 });
        const formats = { weights: "f16", memory: { activations: "f16" } } as const;
        const { bytes } = plan({ config, adapter, batch, ...(length !== null && { length }), ...formats, freezeBelow });
        const least = Math.min(...[row!, ...others].map(({ savedBytes }) => savedBytes));
        expect(bytes.saved, `bytes with layers below ${freezeBelow} frozen`).toBeLessThanOrEqual(least);
      }
    },
  );
});
