import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { createModel, lora, plan } from "../../src/index";
import { planCommand } from "../../src/cli/plan";

const FOLDER = "bench/configs";

const configOf = (name: string): Record<string, unknown> =>
  JSON.parse(readFileSync(`${FOLDER}/${name}.json`, "utf8")) as Record<string, unknown>;

/** Numbers of parameters that Hugging Face counts, the heads of these architectures included. */
const PARAMETERS: Readonly<Record<string, number>> = {
  "bert-base": 109_482_240 + 1538,
  "bert-large": 335_141_888 + 2050,
  // The classifier's dense layer has the pooler's size.
  "roberta-base": 124_645_632 + 1538,
  "roberta-large": 355_359_744 + 2050,
  gpt2: 124_439_808,
  "gpt2-medium": 354_823_168,
  "gpt2-large": 774_030_080,
  "llama-2-7b": 6_738_415_616,
  "llama-3-8b": 8_030_261_248,
  "vit-base": 86_567_656,
  "vit-large": 304_326_632,
};

/**
 * What the least that a step must keep comes to by hand, in GB, with all adapters live and with those of the lowest
 * layers frozen: six values as wide as the model a layer, and its feed-forward's (BERT, GPT-2: 1; LLaMA: 2).
 */
const KEPT = [
  { name: "bert-large", batch: 32, length: 128, rank: 4, below: 22, all: 4.05, frozen: 0.35 },
  { name: "roberta-large", batch: 16, length: 384, rank: 4, below: 22, all: 6.08, frozen: 0.53 },
  { name: "gpt2-medium", batch: 8, length: 512, rank: 4, below: 22, all: 4.09, frozen: 0.39 },
  { name: "llama-2-7b", batch: 2, length: 512, rank: 8, below: 29, all: 6.16, frozen: 0.62 },
];

describe("published configurations", () => {
  it("are all tested", () => {
    const names = readdirSync(FOLDER).map((file) => file.replace(".json", ""));
    expect(names.sort()).toEqual(Object.keys(PARAMETERS).sort());
  });

  it.each(Object.entries(PARAMETERS))("%s has as many parameters as published", (name, parameters) => {
    const counts = createModel(configOf(name)).parameters.map(({ shape }) => shape.reduce((a, b) => a * b, 1));
    expect(counts.reduce((a, b) => a + b, 0)).toBe(parameters);
  });

  it.each(KEPT)("a step of $name keeps what it must and no more", (known) => {
    const { name, batch, length, rank, below, all, frozen } = known;
    const request = { config: configOf(name), adapter: lora({ rank, dropout: 0.1 }), batch, length };
    const gigabytes = (freezeBelow: number): number => plan({ ...request, freezeBelow }).bytes.saved / 1e9;
    for (const [wanted, freezeBelow] of [
      [all, 0],
      [frozen, below],
    ] as const) {
      expect(gigabytes(freezeBelow), `GB with layers below ${freezeBelow} frozen`).toBeGreaterThan(0.9 * wanted);
      expect(gigabytes(freezeBelow), `GB with layers below ${freezeBelow} frozen`).toBeLessThan(wanted + 0.006);
    }
  });

  it.each(Object.keys(PARAMETERS))("safetape plan --config takes %s", async (name) => {
    const printed: string[] = [];
    const given = { config: `${FOLDER}/${name}.json`, batch: 2, adapter: "lora", freezeBelow: 10, json: true };
    await planCommand(given, (line) => printed.push(line));
    const told = JSON.parse(printed.join("")) as { parameters: number; layers: number; afterFreezing: unknown[] };
    expect(told.parameters).toBe(PARAMETERS[name]);
    expect(told.afterFreezing).toHaveLength(told.layers - 10 + 1);
  });
});
