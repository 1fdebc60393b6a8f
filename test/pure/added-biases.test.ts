import { describe, expect, it } from "vitest";
import { bitfit, createModel, lora } from "../../src/index";
import { ConfigError } from "../../src/entry/engine";
import type { Adapter } from "../../src/index";
import { asLora } from "../../src/adapter/as-lora";
import { adapterFile, adapterOfFile } from "../../src/adapter/file";
import { mergedBiases } from "../../src/adapter/merge";
import { elements } from "../../src/base/shape";
import type { FloatTensor } from "../../src/io/safetensors";
import type { Model } from "../../src/model/model";
import { trace } from "../../src/train/plans/trace";
import { trainableSpecs } from "../../src/train/tensors/specs";
import { failure } from "../support/failure";
import { readJson } from "../support/json";
import { tiny } from "../support/tiny";
import type { Config } from "../support/tiny";

const llama = createModel(tiny.llama());
const PROJECTIONS = [
  ...["q_proj", "k_proj", "v_proj", "o_proj"].map((module) => `self_attn.${module}`),
  ...["gate_proj", "up_proj", "down_proj"].map((module) => `mlp.${module}`),
];
/** Names of the biases of every projection of some layers. */
const biasesOf = (...layers: number[]): string[] =>
  layers.flatMap((layer) => PROJECTIONS.map((module) => `model.layers.${layer}.${module}.bias`));

const addedBiases = (adapter: Adapter, model: Model): string[] =>
  adapter.tensors(model).flatMap(({ name }) => (name.endsWith(".bias") ? [name] : []));

/** An adapter's tensors, each full of one number. */
const filledTensors = (adapter: Adapter, model: Model): Map<string, FloatTensor> =>
  new Map(
    adapter
      .tensors(model)
      .map(({ name, shape }, i) => [name, { shape, data: new Float32Array(elements(shape)).fill(i) }]),
  );

describe("biases are added to", () => {
  it.each([
    ["every projection of the layers", () => bitfit({ addBiases: true }), biasesOf(0, 1, 2)],
    ["those of the chosen layers", () => bitfit({ addBiases: true, layers: [1] }), biasesOf(1)],
    ["every projection, adapted or not", () => lora({ addBiases: true, bias: "all" }), biasesOf(0, 1, 2)],
    [
      "the adapted projections",
      () => lora({ addBiases: true, bias: "lora_only" }),
      [0, 1, 2].flatMap((layer) =>
        ["q_proj", "v_proj"].map((module) => `model.layers.${layer}.self_attn.${module}.bias`),
      ),
    ],
  ])("%s", (_, make, names) => {
    const adapter = make();
    expect(addedBiases(adapter, llama).sort()).toEqual([...names].sort());
    const specs = trainableSpecs(llama, adapter);
    for (const name of names) expect(specs.get(name)?.layer, name).toBe(Number(name.split(".")[2]));
    const { tape } = trace({ model: llama, adapter, batch: { size: 1, length: 4 }, isTraining: true, dropped: [2] });
    const read = new Set(tape.values.flatMap(({ origin }) => (origin.kind === "parameter" ? [origin.name] : [])));
    const outsideLayer2 = names.filter((name) => !name.includes(".layers.2."));
    expect(
      names.filter((name) => read.has(name)),
      "in a step without layer 2",
    ).toEqual(outsideLayer2);
  });

  it("no projection that has one", () => {
    const bert = createModel(tiny.bert());
    expect(addedBiases(bitfit({ addBiases: true }), bert)).toEqual([]);
    const withAttention = createModel(tiny.llama({ attention_bias: true }));
    const added = addedBiases(bitfit({ addBiases: true }), withAttention);
    expect(added.sort()).toEqual(
      biasesOf(0, 1, 2)
        .filter((name) => name.includes(".mlp."))
        .sort(),
    );
  });

  it("LLaMA-2 7B, as many as its projections have outputs", () => {
    const model = createModel(readJson<Config>("bench/configs/llama-2-7b.json"));
    const specs = [...trainableSpecs(model, bitfit({ addBiases: true })).values()];
    const count = specs.reduce((sum, { shape }) => sum + elements(shape), 0);
    expect(count).toBe(32 * (4 * 4096 + 2 * 11_008 + 4096));
  });

  it.each([
    ["LoRA that trains none", () => lora({ addBiases: true }), /adds biases, but trains none/],
    ["BitFit without them", () => bitfit().baseTensors?.(llama), /addBiases: true/],
  ])("nothing where that makes no sense: %s", async (_, work, message) => {
    expect((await failure(work, ConfigError)).message).toMatch(message);
  });
});

describe("files of an adapter with added biases", () => {
  it.each([
    ["bitfit", () => bitfit({ addBiases: true, layers: [0, 2] }), "SAFETAPE_BITFIT"],
    ["lora", () => lora({ rank: 2, addBiases: true, bias: "all" }), "SAFETAPE_LORA_WITH_BIASES"],
  ])("are of a kind that PEFT refuses, and are read again: %s", async (_, make, kind) => {
    const adapter = make();
    const tensors = filledTensors(adapter, llama);
    const file = adapterFile(adapter, llama, tensors);
    expect(file.config.peft_type).toBe(kind);
    const read = await adapterOfFile(file, llama, "here");
    expect(read.tensors).toEqual(tensors);
    expect(addedBiases(read.adapter, llama)).toEqual(addedBiases(adapter, llama));
  });

  it("are not those of a plain LoRA", async () => {
    const adapter = lora({ rank: 2, addBiases: true, bias: "lora_only" });
    const error = await failure(() => asLora(adapter, llama, filledTensors(adapter, llama)), ConfigError);
    expect(error.message).toMatch(/adds biases/);
  });
});

describe("a merged model with added biases", () => {
  it("says in its config.json which projections have one, and has zeros where the adapter has none", () => {
    const adapter = lora({ rank: 2, addBiases: true, bias: "lora_only", layers: [1] });
    const tensors = filledTensors(adapter, llama);
    const { config, biases } = mergedBiases(llama, tensors);
    expect(config).toEqual({ ...llama.config, attention_bias: true });
    const attention = biasesOf(0, 1, 2).filter((name) => name.includes("self_attn"));
    expect([...biases.keys()].sort()).toEqual(attention.sort());
    for (const [name, { data }] of biases) {
      const learned = /layers\.1\.self_attn\.[qv]_proj/.test(name)
        ? tensors.get(name)!.data
        : new Float32Array(data.length);
      expect(data, name).toEqual(learned);
    }
    expect(mergedBiases(llama, filledTensors(bitfit({ addBiases: true }), llama)).config).toEqual({
      ...llama.config,
      attention_bias: true,
      mlp_bias: true,
    });
  });

  it("is refused for a family whose config.json knows no biases", async () => {
    const { biasKeys: _, ...without } = llama;
    const tensors = filledTensors(bitfit({ addBiases: true }), llama);
    const error = await failure(() => mergedBiases(without, tensors), ConfigError);
    expect(error.message).toMatch(/config\.json of llama cannot express/);
  });
});
