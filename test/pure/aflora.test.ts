import { describe, expect, it } from "vitest";
import { aflora, afloraFreezing, createModel, lora, vera } from "../../src/index";
import { FileFormatError } from "../../src/entry/engine";
import { makeAdapter } from "../../src/entry/analysis";
import type { AfloraOptions, FreezeContext } from "../../src/index";
import { afloraFromConfig } from "../../src/adapter/aflora";
import { adapterFrom, PLAN } from "../../src/cli/flags";
import { readOptions } from "../../src/cli/options";
import { AfloraSchedule } from "../../src/freeze/aflora-schedule";
import { isInHead } from "../../src/model/model";
import { parametersOutsideHead, trainableSpecs } from "../../src/train/tensors/specs";
import { readJson } from "../support/json";
import type { Config } from "../support/tiny";
import { trainableNumbers } from "../support/trainable-numbers";

const configOf = (name: string): Config => readJson<Config>(`bench/configs/${name}.json`);

const VECTORS = /aflora_[db]$/;
const MATRICES = /aflora_[AB]\.weight$/;

describe("AFLoRA at rank 4", () => {
  // In a layer of BERT-base: 4 (4 + 768) + (4 + 3072) + (4 + 768) = 6,936 and 2 (4 * 768 + 4 * 3072) = 30,720, times 12.
  it.each([
    ["bert-base", 83_232, 368_640],
    ["roberta-base", 83_232, 368_640],
    ["bert-large", 221_760, 983_040],
    ["roberta-large", 221_760, 983_040],
    ["gpt2", 83_136, 368_640],
    ["gpt2-medium", 221_568, 983_040],
    ["llama-2-7b", 1_360_768, 5_799_936],
  ])("trains in %s %i numbers in vectors and %i in matrices", (name, vectors, matrices) => {
    const config = configOf(name);
    expect(trainableNumbers(createModel(config), aflora(), VECTORS)).toBe(vectors);
    expect(trainableNumbers(createModel(config), aflora(), MATRICES)).toBe(matrices);
    expect(trainableNumbers(createModel(config), aflora())).toBe(vectors + matrices);
  });

  // Tables 2 and 3 of the paper. Attention's matrices: 4 projections of 2 * 4 * 768 numbers, times 12.
  it.each([
    ["feed_forward", 368_640],
    ["attention", 294_912],
    ["both", 663_552],
    ["none", 0],
  ] as const)("with matrices in %s trains %i numbers in them, and the same vectors", (matrices, count) => {
    const config = configOf("bert-base");
    expect(trainableNumbers(createModel(config), aflora({ matrices }), MATRICES)).toBe(count);
    expect(trainableNumbers(createModel(config), aflora({ matrices }), VECTORS)).toBe(83_232);
  });

  it("leaves the pooler alone, and chooses matrices by what a projection computes, not by its shape", () => {
    const square = { ...configOf("bert-base"), intermediate_size: 768 };
    const names = aflora()
      .tensors(createModel(square))
      .map(({ name }) => name);
    expect(names.filter((name) => name.includes("pooler"))).toEqual([]);
    // Two modules of A and B in each of twelve layers.
    expect(trainableNumbers(createModel(square), aflora(), MATRICES)).toBe(12 * 2 * 2 * 4 * 768);
    const pooler = aflora({ targets: ["pooler.dense"], matrices: "both" });
    expect(trainableNumbers(createModel(configOf("bert-base")), pooler)).toBe(4 + 768);
  });

  it("writes the targets that the paper names", () => {
    expect(aflora().peftConfig(createModel(configOf("bert-base")))).toMatchObject({
      target_modules: ["query", "key", "value", "output.dense", "intermediate.dense"],
      trained_matrices: "feed_forward",
    });
  });

  it("is beside the counts that the paper prints for LoRA (1.33M) and ELoRA (.16M)", () => {
    const targets = ["query", "key", "value", "output.dense", "intermediate.dense"];
    const config = configOf("bert-base");
    expect(trainableNumbers(createModel(config), lora({ rank: 8, targets }))).toBe(1_327_104);
    expect(trainableNumbers(createModel(config), vera({ rank: 1024, targets }))).toBe(156_672);
  });
});

describe("trainable numbers of AFLoRA over a run of BERT-base", () => {
  // The ramp from t_i to T - t_f has a mean of 1/4 left: (t_i + (T - t_i - t_f) / 4) / T of the matrices.
  it.each([
    [20, 14, 0.1125, 124_704],
    [10, 7, 0.15, 138_528],
  ])(
    "of %i epochs, the last %i of which are frozen, average to what the paper prints",
    (epochs, frozen, share, mean) => {
      const stepsPerEpoch = 1000;
      const steps = epochs * stepsPerEpoch;
      const state = new AfloraSchedule({ start: stepsPerEpoch, end: (epochs - frozen) * stepsPerEpoch });
      const left = Array.from({ length: steps }, (_, i) => 1 - state.fraction(i + 1));
      const average = left.reduce((sum, value) => sum + value, 0) / steps;
      expect(average).toBeCloseTo(share, 4);
      // Printed: .13M for 20 epochs, .13M to .18M over all tasks.
      expect(Math.abs(83_232 + average * 368_640 - mean)).toBeLessThan(20);
    },
  );

  it("follow from which matrices the policy freezes, one by one", async () => {
    const model = createModel(configOf("bert-base"));
    const live = new Map([...trainableSpecs(model, aflora())].filter(([name]) => !isInHead(model, name)));
    const stepsPerEpoch = 20;
    const totalSteps = 20 * stepsPerEpoch;
    const state = afloraFreezing().start({ layers: model.layers, totalSteps, stepsPerEpoch });
    const counts: number[] = [];
    for (let step = 1; step <= totalSteps; step++) {
      const matrices = [...live.keys()].filter((name) => MATRICES.test(name));
      // Scores in no relation to the matrices' sizes.
      const scores = new Map(matrices.map((name, i) => [name, (i * 17 + name.length) % 31]));
      const context = { step, totalSteps, stepsPerEpoch, sensitivity: () => Promise.resolve(scores) };
      // The policy reads nothing else.
      for (const name of await state.decide(context as unknown as FreezeContext)) live.delete(name);
      counts.push(parametersOutsideHead(model, live));
    }
    expect(counts[0]).toBe(451_872);
    expect(counts.at(-1)).toBe(83_232);
    const average = counts.reduce((sum, count) => sum + count, 0) / totalSteps;
    // Whole matrices freeze, of two sizes: within 2 % of the formula.
    expect(Math.abs(average / 124_704 - 1)).toBeLessThan(0.02);
  });
});

describe("AFLoRA's options", () => {
  it("refuses the rule by shape of early files, by its name", () => {
    const file = { peft_type: "SAFETAPE_AFLORA", r: 4, d_initial: 0.1, trains_square: true };
    expect(() => afloraFromConfig(file, "adapter_config.json")).toThrow(FileFormatError);
    expect(() => afloraFromConfig(file, "adapter_config.json")).toThrow(/trains_square[^]*"trained_matrices": "both"/);
  });

  it("refuses an unknown place for matrices", () => {
    // A program in JavaScript may pass anything.
    const options = { matrices: "square" } as unknown as AfloraOptions;
    expect(() => aflora(options)).toThrow(/trained_matrices/);
  });

  it("have a rank budget on the command line and in study files", () => {
    const model = createModel(configOf("bert-base"));
    const config = aflora({ rank: 8, rankBudget: { targetRank: 4 } }).peftConfig(model);
    const flags = { config: "config.json", adapter: "aflora", rank: "8", rankBudget: "4" };
    expect(adapterFrom(readOptions(PLAN, flags)).peftConfig(model)).toEqual(config);
    expect(makeAdapter({ kind: "aflora", rank: 8, rankBudget: { targetRank: 4 } }).peftConfig(model)).toEqual(config);
    expect(() => adapterFrom(readOptions(PLAN, { ...flags, adapter: "lora" }))).toThrow(
      /^--rank-budget does not belong to --adapter lora\./,
    );
    expect(() => readOptions(PLAN, { ...flags, rankBudget: "0" })).toThrow(/--rank-budget is "0"/);
    expect(() => makeAdapter({ kind: "aflora", rankBudget: 4 })).toThrow(/rankBudget/);
    expect(() => makeAdapter({ kind: "aflora", rankBudget: { targetRank: 2, to: 1 } })).toThrow(/rankBudget.*to/);
  });
});
