import { describe, expect, it } from "vitest";
import { bitfit, createModel, houlsby, ia3, lora, pfeiffer, promptTuning, vera } from "../../src/index";
import type { Adapter, Model } from "../../src/index";
import { elements } from "../../src/base/shape";
import { readJson } from "../support/json";
import type { Config } from "../support/tiny";
import { trainableNumbers } from "../support/trainable-numbers";

const published = (name: string): Model => createModel(readJson<Config>(`bench/configs/${name}.json`));

const t5 = published("flan-t5-xl");

/** Numbers that papers, or the programs that they use, print to the last digit. AFLoRA has a test file of its own. */
const EXACT: readonly (readonly [string, Model, Adapter, number])[] = [
  // "Empirical Analysis of the Strengths and Weaknesses of PEFT Techniques for LLMs" (Pu et al. 2023), on FLAN-T5-XL.
  ["BitFit with zero biases", t5, bitfit({ addBiases: true }), 1_179_648],
  // Here for decoders of the same width.
  ["prompt tuning, 100 tokens", published("llama-3.2-1b"), promptTuning({ tokens: 100 }), 204_800],
  // T-Few (Liu et al. 2022): keys and values of 72 attentions, and 48 feed-forwards.
  ["(IA)3", t5, ia3(), 540_672],
  ["(IA)3 on PEFT's modules of T5", t5, ia3({ targets: ["k", "v", "wo"] }), 540_672],
  // The summary that AdapterHub prints for BERT-base.
  ["Houlsby", published("bert-base"), houlsby(), 1_789_056],
  ["Pfeiffer", published("bert-base"), pfeiffer(), 894_528],
];

/** Millions that papers print, rounded as they are. */
const MILLIONS: readonly (readonly [string, Model, Adapter, string])[] = [
  // VeRA (Kopiczko et al. 2024), table 2: query and value.
  ["VeRA of rank 1024", published("roberta-base"), vera({ rank: 1024 }), "0.043"],
  ["VeRA of rank 256", published("roberta-large"), vera({ rank: 256 }), "0.061"],
  ["LoRA of rank 8", published("roberta-base"), lora({ rank: 8 }), "0.3"],
  ["LoRA of rank 8", published("roberta-large"), lora({ rank: 8 }), "0.8"],
];

describe("trainable numbers", () => {
  it.each(EXACT)("of %s are those that are printed", (_, model, adapter, count) => {
    expect(trainableNumbers(model, adapter)).toBe(count);
  });

  it.each(MILLIONS)("of %s are the millions that are printed", (_, model, adapter, millions) => {
    const digits = millions.split(".")[1]!.length;
    expect((trainableNumbers(model, adapter) / 1e6).toFixed(digits)).toBe(millions);
  });

  // BitFit (Ben Zaken et al. 2022), table 1.
  it.each([
    ["bert-base", "0.09"],
    ["bert-large", "0.08"],
  ])("of BitFit in %s are %s %% of the encoder's", (name, percent) => {
    const model = published(name);
    const encoder = model.parameters.filter((parameter) => !parameter.name.startsWith("classifier."));
    const all = encoder.reduce((sum, { shape }) => sum + elements(shape), 0);
    expect(((100 * trainableNumbers(model, bitfit())) / all).toFixed(2)).toBe(percent);
  });
});

// The study's ablations leave out a half of the layers, self-attention, or attention across: shares of the whole count.
describe("parts of FLAN-T5-XL", () => {
  const added = (options: Parameters<typeof bitfit>[0]): number =>
    trainableNumbers(t5, bitfit({ ...options, addBiases: true }));

  it("add up to the whole: the encoder's blocks and the decoder's", () => {
    // Per block: four projections of 2048 for each attention, two of 5120 and one of 2048.
    const encoder = 24 * (4 * 2048 + 2 * 5120 + 2048);
    expect(added({ layers: "early" })).toBe(encoder);
    expect(added({ layers: "later" })).toBe(1_179_648 - encoder);
  });

  it("are chosen by pattern: (IA)3 without attention across loses 24 keys and values", () => {
    const targets = ".*(SelfAttention\\.(k|v)|wo)";
    expect(trainableNumbers(t5, ia3({ targets }))).toBe(540_672 - 24 * 2 * 2048);
  });
});
