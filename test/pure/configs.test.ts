import { readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { createModel, lora, plan } from "../../src/index";
import { planCommand } from "../../src/cli/plan";
import { parseJson, readJson } from "../support/json";
import type { Config } from "../support/tiny";

const FOLDER = "bench/configs";

const configOf = (name: string) => readJson<Config>(`${FOLDER}/${name}.json`);

/** Numbers of parameters as Hugging Face counts them, with the heads of these architectures. */
const PARAMETERS: Readonly<Record<string, number>> = {
  "bert-base": 109_482_240 + 1538,
  "bert-large": 335_141_888 + 2050,
  // The dense layer of the classifier is as large as the pooler.
  "roberta-base": 124_645_632 + 1538,
  "roberta-large": 355_359_744 + 2050,
  gpt2: 124_439_808,
  "gpt2-medium": 354_823_168,
  "gpt2-large": 774_030_080,
  "llama-2-7b": 6_738_415_616,
  "llama-3-8b": 8_030_261_248,
  "llama-3.2-1b": 1_235_814_400,
  "qwen3-0.6b": 596_049_920,
  "qwen3-1.7b": 1_720_574_976,
  "gemma-3-270m": 268_098_176,
  "gemma-3-1b": 999_885_952,
  "deberta-v3-base": 184_423_682,
  "modernbert-base": 149_606_402,
  // With the output projection of the published checkpoint.
  "flan-t5-base": 247_577_856,
  "flan-t5-xl": 2_849_757_184,
  "t5-small": 60_492_800,
  "swin-base": 87_768_224,
  "vit-base": 86_567_656,
  "vit-large": 304_326_632,
};

/**
 * The fewest GB that a step must keep, calculated by hand, with all adapters live and with those of the layers below
 * `below` frozen: in each layer six values as wide as the model, and one (BERT, GPT-2) or two (LLaMA) as wide as the
 * feed-forward part.
 */
const KEPT = [
  { name: "bert-large", batch: 32, length: 128, rank: 4, below: 22, all: 4.05, frozen: 0.35 },
  { name: "roberta-large", batch: 16, length: 384, rank: 4, below: 22, all: 6.08, frozen: 0.53 },
  { name: "gpt2-medium", batch: 8, length: 512, rank: 4, below: 22, all: 4.09, frozen: 0.39 },
  { name: "llama-2-7b", batch: 2, length: 512, rank: 8, below: 29, all: 6.16, frozen: 0.62 },
];

interface PlanOutput {
  readonly parameters: number;
  readonly afterFreezing: readonly unknown[];
}

describe("published configurations", () => {
  it("are all tested", () => {
    const names = readdirSync(FOLDER).map((file) => file.replace(".json", ""));
    expect(names.sort()).toEqual(Object.keys(PARAMETERS).sort());
  });

  it.each(Object.entries(PARAMETERS))("have as many parameters as published: %s", (name, parameters) => {
    const counts = createModel(configOf(name)).parameters.map(({ shape }) => shape.reduce((a, b) => a * b, 1));
    expect(counts.reduce((a, b) => a + b, 0)).toBe(parameters);
  });

  it.each(KEPT)("a step of $name keeps no more than it must", ({ name, batch, length, rank, below, all, frozen }) => {
    const request = { config: configOf(name), adapter: lora({ rank, dropout: 0.1 }), batch, length };
    const gigabytes = (freezeBelow: number): number => plan({ ...request, freezeBelow }).bytes.saved / 1e9;
    for (const [least, freezeBelow] of [
      [all, 0],
      [frozen, below],
    ] as const) {
      expect(gigabytes(freezeBelow), `GB with layers below ${freezeBelow} frozen`).toBeGreaterThan(0.9 * least);
      expect(gigabytes(freezeBelow), `GB with layers below ${freezeBelow} frozen`).toBeLessThan(least + 0.006);
    }
  });

  it.each(Object.keys(PARAMETERS))("are accepted by safetape plan --config: %s", async (name) => {
    const printed: string[] = [];
    // One plan with everything frozen and one with a live layer: a plan for each layer of each model would take half a minute.
    const freezeBelow = createModel(configOf(name)).layers - 1;
    const given = { config: `${FOLDER}/${name}.json`, batch: 2, adapter: "lora", freezeBelow, json: true };
    await planCommand(given, (line) => printed.push(line));
    const { parameters, afterFreezing } = parseJson<PlanOutput>(printed.join(""));
    expect(parameters).toBe(PARAMETERS[name]);
    expect(afterFreezing).toHaveLength(2);
  });
});
