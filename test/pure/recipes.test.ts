import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { plan, lora } from "safetape";
import { memoryByMethod } from "safetape/analysis";
import { memoryCommand } from "../../src/cli/analysis/memory";
import { adapterFrom, TRAIN, trainerSettings } from "../../src/cli/flags";
import { readOptions, withFallbacks } from "../../src/cli/options";
import { RECIPES, recipeNamed, withRecipe } from "../../src/cli/recipes";
import { recipesCommand } from "../../src/cli/recipes/command";
import { readStudy } from "../../src/cli/study/file";
import { publishedSplit } from "../../src/cli/tasks/published-split";
import { TASKS } from "../../src/cli/tasks/tasks";
import { failure } from "../support/failure";
import { useFolder } from "../support/folder";
import { parseJson, readJson } from "../support/json";
import type { Config } from "../support/tiny";

const optionsOf = (name: string) => recipeNamed(name).options;

describe("the recipes", () => {
  it.each([
    // SAFE, appendix C.4: learning rate, batch, epochs.
    ["safe/bert-base/cola/lora", 6e-4, 32, 100],
    ["safe/bert-base/cola/bitfit", 9e-4, 32, 100],
    ["safe/bert-base/mrpc/lora", 5e-4, 16, 50],
    ["safe/bert-base/mrpc/houlsby", 5e-4, 32, 50],
    ["safe/bert-base/squad/houlsby", 1e-4, 16, 50],
    ["safe/bert-large/mrpc/lora", 3e-4, 4, 50],
    ["safe/bert-large/squad/full", 0.7e-4, 16, 50],
    ["safe/bert-large/squad/adalora", 4e-4, 16, 50],
    ["safe/roberta-base/squad/bitfit", 8e-4, 32, 50],
    ["safe/roberta-large/squad/lora", 6e-4, 16, 50],
    ["safe/gpt2-medium/e2e/lora", 1e-4, 8, 10],
    ["safe/gpt2-large/e2e/lora", 5e-5, 4, 10],
    ["safe/llama-2-7b/lamini/lora", 1e-4, 128, 3],
    ["safe/vit-base/cars/lora", 7e-3, 64, 100],
    ["safe/vit-base/flowers/lora", 0.8e-3, 64, 40],
    ["safe/vit-large/country211/bitfit", 2e-3, 64, 100],
    ["safe/swin-base/flowers/lora", 0.7e-3, 64, 30],
    ["safe/swin-large/food101/lora", 0.5e-3, 64, 50],
    // AFLoRA, table 5.
    ["aflora/deberta-v3-base/mrpc/aflora", 1e-2, 64, 20],
    ["aflora/deberta-v3-base/qqp/aflora", 4e-3, 64, 10],
    // The empirical study: batch and epochs are the paper's, rates this library's.
    ["empirical/flan-t5-xl/cola-medium/ia3", 3e-3, 16, 5],
  ])("%s has the printed learning rate, batch and epochs", (name, lr, batch, epochs) => {
    const options = optionsOf(name);
    expect(options.lr).toBeCloseTo(lr, 12);
    expect(options).toMatchObject({ batch, epochs });
  });

  it("have further printed settings", () => {
    const lowRank = { rank: 4, alpha: 16, dropout: 0.1, targets: "query,value", weightDecay: 0, warmupRatio: 0 };
    expect(optionsOf("safe/bert-base/rte/lora")).toMatchObject({ ...lowRank, freeze: "safe", split: "half-dev" });
    expect(optionsOf("safe/bert-base/sst2/lora")).toMatchObject({ epochs: 75, split: "train-1000" });
    expect(optionsOf("safe/bert-base/mnli/lora")).toMatchObject({ split: "mismatched" });
    const beams = { beams: 10, lengthPenalty: 0.8, uniqueNgram: 4, labelSmoothing: 0.1, maxLength: 512 };
    expect(optionsOf("safe/gpt2-large/e2e/lora")).toMatchObject(beams);
    const { headLr, freeze } = optionsOf("aflora/deberta-v3-base/rte/aflora");
    expect(headLr).toBe(4e-2);
    // t_f is 14 of 20 epochs.
    expect(parseJson(String(freeze))).toEqual({
      policy: "aflora",
      initialEpochs: 1,
      finalShare: 0.7,
      beta1: 0.85,
      beta2: 0.95,
    });
    expect(optionsOf("empirical/flan-t5-xl/e2e-low/prompt")).toMatchObject({ tokens: 100, accumulate: 4, epochs: 10 });
    expect(optionsOf("empirical/flan-t5-xl/e2e-high/lora")).toMatchObject({ rank: 2, epochs: 1, examples: 10_000 });
    expect(optionsOf("empirical/flan-t5-xl/cola-medium/lora")).toMatchObject({ examples: 1000 });
    expect(optionsOf("empirical/flan-t5-xl/cola-high/lora"), "CoLA has 8,551").not.toHaveProperty("examples");
    expect(optionsOf("empirical/flan-t5-xl/cola-low/bitfit")).toMatchObject({ addBiases: true });
  });

  it("leave out what a paper's table leaves out", () => {
    const names = RECIPES.map(({ name }) => name);
    expect(names).not.toContain("safe/vit-large/flowers/lora");
    expect(new Set(names).size, "names").toBe(names.length);
    // BERT-base 9 tasks x 3 methods; BERT-large 8 tasks, and SQuAD with 6 methods; RoBERTa 2 x 3; GPT-2 2; LLaMA 1;
    // images 8 x 6 without ViT-large's Flowers; AFLoRA 8; the empirical study 4 tasks x 3 regimes x 5 methods.
    const counts = [27 + 8 + 6 + 6 + 2 + 1 + (48 - 3), 8, 60];
    expect(
      ["safe/", "aflora/", "empirical/"].map((paper) => names.filter((name) => name.startsWith(paper)).length),
    ).toEqual(counts);
  });

  it.each(RECIPES.map(({ name }) => name))("%s builds its adapter, policy and settings", (name) => {
    const recipe = recipeNamed(name);
    const raw = withFallbacks(TRAIN, withRecipe({ recipe: name, model: "m", data: "d", out: "o" }));
    const options = readOptions(TRAIN, raw);
    expect(TASKS).toContain(options.task);
    expect(adapterFrom(options).kind).toBe(options.adapter);
    expect(trainerSettings(options.freeze, options).optimizer.settings.learningRate).toBe(recipe.options.lr);
    expect(recipe.ours.length + recipe.source.length, "what is ours, and the source").toBeGreaterThan(0);
  });

  it("are overridden by what is given, and override defaults", () => {
    const raw = withFallbacks(TRAIN, withRecipe({ recipe: "safe/bert-base/cola/lora", lr: 1e-3, model: "m" }));
    expect(raw).toMatchObject({ lr: 1e-3, batch: 32, seed: 0, recipe: "safe/bert-base/cola/lora" });
    expect(withFallbacks(TRAIN, withRecipe({ model: "m" }))).toMatchObject({ lr: 0.001, batch: 8 });
  });

  it("that do not exist are refused with the nearest names", async () => {
    const { fact, remedy } = await failure(() => recipeNamed("safe/bert-base/colla/lora"));
    expect(fact).toContain("safe/bert-base/colla/lora");
    expect(remedy).toMatch(/^The nearest are safe\/bert-base\/cola\/lora, /);
  });
});

describe("a study", () => {
  const path = useFolder();
  const read = (method: object, task: object) => {
    writeFileSync(
      path("study.json"),
      JSON.stringify({ model: "m", tasks: [{ data: "d", ...task }], methods: [{ name: "x", ...method }], seeds: [1] }),
    );
    return readStudy(path("study.json"));
  };

  it("takes methods and tasks from recipes, and overrides them", async () => {
    const { methods, tasks } = await read(
      { recipe: "safe/bert-base/cola/lora", weightDecay: 0.01 },
      { recipe: "safe/bert-base/cola/lora", batch: 8 },
    );
    expect(methods[0]).toMatchObject({
      adapter: { kind: "lora", rank: 4, alpha: 16, dropout: 0.1, targets: ["query", "value"] },
      freeze: { policy: "safe" },
      learningRate: 6e-4,
      weightDecay: 0.01,
    });
    expect(tasks[0]).toMatchObject({ task: "cola", batch: 8, epochs: 100, maxLength: 128 });
    const aflora = await read(
      { recipe: "aflora/deberta-v3-base/rte/aflora" },
      { recipe: "safe/gpt2-medium/e2e/lora", steps: 5 },
    );
    expect(aflora.methods[0]).toMatchObject({
      freeze: { policy: "aflora", finalShare: 0.7 },
      headLearningRate: 4e-2,
      weightDecay: 0.1,
    });
    expect(aflora.tasks[0]).toMatchObject({ steps: 5, labelSmoothing: 0.1, generate: { beams: 10, noRepeatNgram: 4 } });
    expect(aflora.tasks[0]).not.toHaveProperty("epochs");
    const low = await read({ recipe: "safe/bert-base/cola/lora" }, { recipe: "empirical/flan-t5-xl/cola-low/lora" });
    expect(low.tasks[0]).toMatchObject({ examples: 100, epochs: 10 });
  });

  it("refuses a recipe that does not exist, and a method that is still incomplete", async () => {
    const task = { task: "cola", steps: 1 };
    expect((await failure(read({ recipe: "safe/bert-base/cola" }, task))).fact).toMatch(
      /no recipe safe\/bert-base\/cola/,
    );
    expect((await failure(read({ learningRate: 1 }, task))).fact).toMatch(/study\.json.*adapter/);
  });
});

describe("safetape recipes", () => {
  const printed = (name?: string, raw = {}): string[] => {
    const lines: string[] = [];
    recipesCommand(name, raw, (line) => lines.push(line));
    return lines;
  };

  it("lists all, those with some words, or one", async () => {
    expect(printed()).toHaveLength(RECIPES.length);
    expect(printed("bert-base/cola")).toEqual(
      ["lora", "bitfit", "houlsby"].map((method) => `safe/bert-base/cola/${method}  bert-base-uncased`),
    );
    const one = printed("safe/bert-base/cola/lora");
    expect(one.slice(0, 3)).toEqual([
      "safe/bert-base/cola/lora",
      "source: SAFE (Son et al. 2024, arXiv 2412.03587), appendix C.4",
      "model: bert-base-uncased",
    ]);
    expect(one).toContain("  --max-length 128");
    expect(one.filter((line) => line.startsWith("not in the paper: "))).toHaveLength(3);
    expect(printed("safe/gpt2-medium")).toContain("  --generate");
    expect(parseJson(printed("cola/houlsby", { json: true })[0]!)).toMatchObject([
      { name: "safe/bert-base/cola/houlsby" },
    ]);
    expect((await failure(() => printed("safe/bert-tiny"))).remedy).toMatch(/^The nearest are /);
  });
});

describe("published splits", () => {
  const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

  it("keep the published numbers of examples back, always the same ones", () => {
    const sizes = (split: Parameters<typeof publishedSplit>[0], train: number, dev: number) => {
      const parts = publishedSplit(split, numbers(train), numbers(dev));
      return [parts.train.length, parts.validation.length, parts.test.length];
    };
    expect(sizes("half-dev", 8551, 1043), "CoLA").toEqual([8551, 521, 522]);
    expect(sizes("train-1000", 67349, 872), "SST-2").toEqual([66349, 1000, 872]);
    expect(sizes("train-tenth", 50000, 10000), "CIFAR").toEqual([45000, 5000, 10000]);
    expect(sizes("train-tenth", 8140, 10), "Cars").toEqual([7326, 814, 10]);
    expect(sizes(undefined, 5, 3)).toEqual([5, 3, 0]);
    const { train, validation } = publishedSplit("train-tenth", numbers(50), []);
    expect([...train, ...validation].sort((a, b) => a - b)).toEqual(numbers(50));
    expect(publishedSplit("train-tenth", numbers(50), []).validation).toEqual(validation);
    expect(validation).not.toEqual(numbers(5));
  });

  it("refuse data that are too small", async () => {
    const { fact } = await failure(() => publishedSplit("train-1000", numbers(1000), numbers(3)));
    expect(fact).toMatch(/the training set has 1000 examples, of which 1000 cannot be kept back/);
    await failure(() => publishedSplit("half-dev", [], numbers(1)));
  });
});

describe("memory by method", () => {
  const config = readJson<Config>("bench/configs/bert-base.json");
  const path = useFolder();

  it("is the plan of each of seven methods, the same for LoRA as plan() gives", () => {
    const methods = memoryByMethod({ config, batch: 4, length: 64 });
    expect(methods.map(({ name }) => name)).toEqual([
      ...["full tuning", "Houlsby", "Pfeiffer", "AdaLoRA", "BitFit", "LoRA", "LoRA + SAFE, 6 of 12 frozen"],
    ]);
    const adapter = lora({ rank: 4, alpha: 16, dropout: 0.1 });
    const [all, half] = [0, 6].map((freezeBelow) => plan({ config, adapter, batch: 4, length: 64, freezeBelow }));
    expect(methods[5]).toMatchObject({ bytes: all!.bytes, peakBytes: all!.peakBytes });
    expect(methods[6]).toMatchObject({ bytes: half!.bytes, peakBytes: half!.peakBytes });
    // Gradients and two moments of 109 million parameters in f32, and hardly any of an adapter.
    expect(methods[0]!.bytes.state).toBeGreaterThan(3 * 4 * 109e6);
    expect(methods[5]!.bytes.state).toBeLessThan(10e6);
    expect(methods[6]!.bytes.saved / methods[5]!.bytes.saved).toBeLessThan(0.6);
  });

  it("refuses more frozen layers than there are", async () => {
    const { message } = await failure(() => memoryByMethod({ config, batch: 1, freezeBelow: 13 }));
    expect(message).toMatch(/13 layers cannot be frozen\.\nThis model has 12 layers/);
  });

  it("is drawn and saved by safetape analyze memory", async () => {
    const lines: string[] = [];
    const raw = { config: "bench/configs/bert-base.json", batch: 2, out: path("m"), json: true };
    await memoryCommand(raw, (line) => lines.push(line));
    const printed = parseJson<{ readonly methods: readonly unknown[]; readonly files: readonly string[] }>(lines[0]!);
    expect(printed.methods).toHaveLength(7);
    expect(printed.files).toEqual(["memory.json", "memory.csv", "memory.svg"]);
    expect(readFileSync(path("m", "memory.csv"), "utf8").trim().split("\n")).toHaveLength(8);
    await expect(memoryCommand({ out: path("m") }, () => undefined)).rejects.toThrow(/--config is missing/);
  });
});
