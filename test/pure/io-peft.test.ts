import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { ConfigError, FileFormatError, ShapeError } from "../../src/base/errors";
import { openCheckpoint } from "../../src/io/checkpoint";
import { memoryDirectory } from "../../src/io/directory";
import { jsonBytes } from "../../src/io/json";
import { readAdapterDirectory, writeAdapterDirectory } from "../../src/io/peft";
import type { PeftConfig } from "../../src/io/peft";
import { headKey, loraBiasKey, loraKey, sortLoraTensors, stripPrefix } from "../../src/io/peft-keys";
import { loraConfig, parseLoraConfig, rankOf, scaleOf } from "../../src/io/peft-lora";
import { isTarget } from "../../src/io/peft-match";
import type { FloatTensor } from "../../src/io/safetensors";
import { openDirectory } from "../../src/node/directory";

const DATA = fileURLToPath(new URL("../interop-data/", import.meta.url));
const CASES = ["bert/lora", "bert/rslora", "gpt2/lora"].map((path) => ({ path, base: `${path.split("/")[0]!}/base` }));

const tensor = (...shape: number[]): FloatTensor => ({
  shape,
  data: new Float32Array(shape.reduce((product, size) => product * size, 1)),
});

describe.each(CASES)("what PEFT wrote: $path", ({ path, base }) => {
  const load = async () => readAdapterDirectory(await openDirectory(join(DATA, path)));

  test("its modules are those that the configuration chooses, with its ranks, in the checkpoint's sizes", async () => {
    const { config, tensors } = await load();
    const lora = parseLoraConfig(config, path);
    const { modules } = sortLoraTensors(tensors, path);
    const checkpoint = await openCheckpoint(await openDirectory(join(DATA, base)));
    const names = checkpoint
      .names()
      .filter((name) => name.endsWith(".weight") && checkpoint.info(name).shape.length === 2);
    const linear = names.map((name) => name.slice(0, -".weight".length));
    expect([...modules.keys()].sort()).toEqual(linear.filter((module) => isTarget(lora, module)).sort());
    for (const [module, { a, b }] of modules) {
      const [rows, columns] = checkpoint.info(`${module}.weight`).shape;
      const [output, input] = lora.fan_in_fan_out ? [columns, rows] : [rows, columns];
      expect([a.shape, b.shape], module).toEqual([
        [rankOf(lora, module), input],
        [output, rankOf(lora, module)],
      ]);
    }
  });

  test("heads are the modules to save", async () => {
    const { config, tensors } = await load();
    const { heads } = sortLoraTensors(tensors, path);
    const saved = parseLoraConfig(config, path).modules_to_save;
    expect([...heads.keys()].sort()).toEqual(saved === null ? [] : ["classifier.bias", "classifier.weight"]);
  });

  test("written again it has the same tensors and bytes, and the keys it had", async () => {
    const source = await openDirectory(join(DATA, path));
    const { config, tensors } = await readAdapterDirectory(source);
    const { modules, heads } = sortLoraTensors(tensors, path);
    const list = [
      ...[...modules].flatMap(([module, { a, b }]) => [
        { name: loraKey(module, "B"), ...b },
        { name: loraKey(module, "A"), ...a },
      ]),
      ...[...heads].map(([name, head]) => ({ name: headKey(name), ...head })),
    ];
    const directory = memoryDirectory("copy");
    await writeAdapterDirectory(directory, config, list);
    expect(await directory.list()).toEqual(["adapter_config.json", "adapter_model.safetensors"]);
    expect(await readAdapterDirectory(directory)).toEqual({ config, tensors });
    const [ours, theirs] = [directory, source].map((each) => each.read("adapter_model.safetensors"));
    expect(Buffer.compare((await ours)!, (await theirs)!), "PEFT writes other bytes").toBe(0);
  });
});

test("the copies of PEFT's files are complete", () => {
  for (const { path } of CASES) {
    expect(readdirSync(join(DATA, path)).sort()).toEqual([
      "adapter_config.json",
      "adapter_model.safetensors",
      "expected.safetensors",
    ]);
  }
});

describe("keys", () => {
  test("are PEFT's", () => {
    const module = "bert.encoder.layer.0.attention.self.query";
    expect(loraKey(module, "A")).toBe(`base_model.model.${module}.lora_A.weight`);
    expect(loraBiasKey(module)).toBe(`base_model.model.${module}.base_layer.bias`);
    expect(headKey("classifier.weight")).toBe("base_model.model.classifier.weight");
    expect(stripPrefix("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight")).toBe(
      "model.layers.0.self_attn.q_proj.lora_A.weight",
    );
    expect(stripPrefix("base_model.model.classifier.modules_to_save.weight")).toBe("classifier.weight");
    expect(stripPrefix("base_model.model.classifier.modules_to_save.default.weight")).toBe("classifier.weight");
  });

  test("biases of adapted modules belong to them", () => {
    const tensors = new Map([
      [loraKey("x.query", "A"), tensor(2, 4)],
      [loraKey("x.query", "B"), tensor(6, 2)],
      [loraBiasKey("x.query"), tensor(6)],
    ]);
    const { modules, heads } = sortLoraTensors(tensors, "here");
    expect([heads.size, modules.get("x.query")?.bias?.shape]).toEqual([0, [6]]);
  });

  test.each<[string, Record<string, FloatTensor>, new (...args: never[]) => Error, RegExp]>([
    ["A without B", { [loraKey("q", "A")]: tensor(2, 4) }, FileFormatError, /q has no lora_B in here/],
    ["B without A", { [loraKey("q", "B")]: tensor(4, 2) }, FileFormatError, /q has no lora_A/],
    ["a bias alone", { [loraBiasKey("q")]: tensor(4) }, FileFormatError, /q has no lora_A/],
    [
      "two ranks",
      { [loraKey("q", "A")]: tensor(2, 4), [loraKey("q", "B")]: tensor(4, 3) },
      ShapeError,
      /q has lora_A \[2, 4\] and lora_B \[4, 3\]/,
    ],
    ["rank 0", { [loraKey("q", "A")]: tensor(0, 4), [loraKey("q", "B")]: tensor(4, 0) }, ShapeError, /lora_A \[0, 4\]/],
    ["a vector", { [loraKey("q", "A")]: tensor(4), [loraKey("q", "B")]: tensor(4, 4) }, ShapeError, /lora_A \[4\]/],
    [
      "a bias of another size",
      { [loraKey("q", "A")]: tensor(2, 4), [loraKey("q", "B")]: tensor(4, 2), [loraBiasKey("q")]: tensor(5) },
      ShapeError,
      /bias \[5\]/,
    ],
    [
      "an embedding's matrices",
      { "base_model.model.wte.lora_embedding_A": tensor(2, 4) },
      FileFormatError,
      /no key of/,
    ],
    ["AdaLoRA's matrices", { "base_model.model.q.lora_E": tensor(2, 1) }, FileFormatError, /no key of/],
  ])("refuses %s", (_, tensors, error, message) => {
    expect(() => sortLoraTensors(new Map(Object.entries(tensors)), "here")).toThrow(error);
    expect(() => sortLoraTensors(new Map(Object.entries(tensors)), "here")).toThrow(message);
  });
});

describe("the LoRA configuration", () => {
  const parse = (config: Record<string, unknown>) =>
    parseLoraConfig({ peft_type: "LORA", ...config }, "adapter_config.json");

  test("has PEFT's defaults", () => {
    expect(parse({})).toMatchObject({ r: 8, lora_alpha: 8, lora_dropout: 0, bias: "none", use_rslora: false });
  });

  test("ranks and scales follow the patterns; rank-stabilised divides by the root", () => {
    const config = parse({ r: 4, lora_alpha: 12, rank_pattern: { value: 6 }, alpha_pattern: { "0.*value": 9 } });
    const stable = { ...config, use_rslora: true };
    const [query, value] = ["layer.0.self.query", "layer.0.self.value"];
    expect([rankOf(config, query), scaleOf(config, query)]).toEqual([4, 3]);
    expect([rankOf(config, value), scaleOf(config, value)]).toEqual([6, 1.5]);
    expect([scaleOf(stable, query), scaleOf(stable, value)]).toEqual([6, 9 / Math.sqrt(6)]);
    expect(rankOf(config, "layer.0.self.my_value"), "a suffix begins after a dot").toBe(4);
  });

  test("round trip of what is written", () => {
    const config = loraConfig({ r: 2, lora_alpha: 4, target_modules: ["query"], task_type: "SEQ_CLS" });
    expect(config).toMatchObject({
      peft_type: "LORA",
      r: 2,
      inference_mode: true,
      rank_pattern: {},
      modules_to_save: null,
    });
    expect(parseLoraConfig(config, "x")).toEqual(config);
  });

  test.each([
    ["another kind", { peft_type: "IA3" }, FileFormatError, /peft_type/],
    ["rank 0", { r: 0 }, FileFormatError, /adapter_config.json: r: /],
    ["a rank in quotes", { r: "8" }, FileFormatError, /r: /],
    ["a dropout of 2", { lora_dropout: 2 }, FileFormatError, /lora_dropout/],
    ["a rank pattern of 0", { rank_pattern: { query: 0 } }, FileFormatError, /rank_pattern.query/],
    ["an unknown bias", { bias: "some" }, FileFormatError, /bias/],
    ["DoRA", { use_dora: true }, ConfigError, /use_dora: true, which is not implemented/],
    ["replicated layers", { layer_replication: [[0, 4]] }, ConfigError, /layer_replication/],
    ["a start that changes the base", { init_lora_weights: "pissa" }, ConfigError, /pissa/],
  ])("refuses %s", (_, config, error, message) => {
    expect(() => parse(config)).toThrow(error);
    expect(() => parse(config)).toThrow(message);
  });
});

describe("isTarget", () => {
  const all = { target_modules: null, layers_to_transform: null, layers_pattern: null };

  test.each<[string, Partial<Parameters<typeof isTarget>[0]>, string, boolean]>([
    ["a suffix", { target_modules: ["query"] }, "bert.encoder.layer.0.attention.self.query", true],
    [
      "a suffix of two parts hits both",
      { target_modules: ["output.dense"] },
      "bert.layer.0.attention.output.dense",
      true,
    ],
    ["no suffix within a name", { target_modules: ["dense"] }, "bert.predense", false],
    ["a whole name", { target_modules: ["classifier"] }, "classifier", true],
    ["an expression for the whole path", { target_modules: ".*\\.[qv]_proj" }, "model.layers.0.self_attn.q_proj", true],
    ["no expression for a part", { target_modules: "q_proj" }, "model.layers.0.self_attn.q_proj", false],
    ["nothing", {}, "query", false],
    ["a chosen layer", { target_modules: ["query"], layers_to_transform: [0, 2] }, "bert.layer.2.query", true],
    ["another layer", { target_modules: ["query"], layers_to_transform: 1 }, "bert.layer.2.query", false],
    ["no layer", { target_modules: ["query"], layers_to_transform: [0] }, "bert.query", false],
    ["an empty choice", { target_modules: ["query"], layers_to_transform: [] }, "bert.layer.2.query", true],
    [
      "layers by name",
      { target_modules: ["q"], layers_to_transform: [1], layers_pattern: "h" },
      "transformer.h.1.experts.0.q",
      true,
    ],
    [
      "layers by names",
      { target_modules: ["q"], layers_to_transform: [0], layers_pattern: ["blocks", "experts"] },
      "transformer.h.1.experts.0.q",
      true,
    ],
  ])("%s", (_, config, module, expected) => {
    expect(isTarget({ ...all, ...config }, module)).toBe(expected);
  });

  test("an expression that is invalid or unsupported says so", () => {
    expect(() => isTarget({ ...all, target_modules: "(" }, "x")).toThrow(ConfigError);
    expect(() => isTarget({ ...all, target_modules: "(?!vision).*" }, "x")).toThrow(
      /module pattern "\(\?!vision\)\.\*"/,
    );
  });
});

describe("damaged adapter directories", () => {
  const config = jsonBytes({ peft_type: "LORA" });

  test.each<[string, Record<string, Uint8Array>, RegExp]>([
    ["no configuration", { "adapter_model.safetensors": new Uint8Array(8) }, /no file adapter_config.json/],
    ["no weights", { "adapter_config.json": config }, /no file adapter_model.safetensors/],
    ["no kind", { "adapter_config.json": jsonBytes({ r: 8 }) }, /adapter_config.json in x: .*peft_type/],
    ["weights cut off", { "adapter_config.json": config, "adapter_model.safetensors": new Uint8Array(4) }, /too few/],
  ])("%s", async (_, files, message) => {
    await expect(readAdapterDirectory(memoryDirectory("x", files))).rejects.toThrow(FileFormatError);
    await expect(readAdapterDirectory(memoryDirectory("x", files))).rejects.toThrow(message);
  });

  test("an adapter that cannot be written leaves the one before", async () => {
    const directory = memoryDirectory("x");
    const lora: PeftConfig = loraConfig({});
    await writeAdapterDirectory(directory, lora, [{ name: "a", ...tensor(2) }]);
    const before = await readAdapterDirectory(directory);
    const failing = { name: "a", shape: [1], data: () => Promise.reject(new Error("lost")) };
    await expect(writeAdapterDirectory(directory, { ...lora, r: 1 }, [failing])).rejects.toThrow("lost");
    expect(await readAdapterDirectory(directory)).toEqual(before);
  });
});
