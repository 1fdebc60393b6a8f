import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { gguf } from "@huggingface/gguf";
import * as v from "valibot";
import { describe, expect, it } from "vitest";
import { lora } from "safetape";
import type { Adapter } from "safetape";
import { memoryDirectory } from "safetape/data";
import type { Directory } from "safetape/data";
import { ConfigError, DtypeError } from "safetape/engine";
import { exportGgufAdapter, exportGgufModel, ggufContent } from "safetape/gguf";
import type { GgufFormat } from "safetape/gguf";
import { createModel } from "safetape/models";
import type { Model } from "safetape/models";
import type { Tensors } from "../../src/adapter/adapter";
import { adapterFile } from "../../src/adapter/file";
import { decodeF16 } from "../../src/base/float";
import { elements } from "../../src/base/shape";
import { encodeTensor } from "../../src/gguf/encodings";
import { ggufFamily, ggufModule } from "../../src/gguf/families";
import { writeCheckpoint } from "../../src/io/checkpoint";
import { jsonBytes, readJson } from "../../src/io/json";
import { writeAdapterDirectory } from "../../src/io/peft";
import { readFloatTensors } from "../../src/io/safetensors";
import { openDirectory } from "../../src/node/directory";
import { runCli } from "../support/cli";
import { failure } from "../support/failure";
import { useFolder } from "../support/folder";
import { tiny } from "../support/tiny";
import type { Config } from "../support/tiny";

/** What llama.cpp's own Python package gives (test/interop/llama-cpp.py). */
interface LlamaCpp {
  readonly names: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly q8_0: { readonly values: readonly number[]; readonly bytes: readonly number[] };
}
// Written by that script.
const llamaCpp = JSON.parse(readFileSync("test/interop/llama-cpp.json", "utf8")) as LlamaCpp;

const path = useFolder();

const WINDOWS = { sliding_window: 4096 };
/** Small models of the families that are exported, with what llama.cpp takes for granted. */
const CONFIGS: Readonly<Record<string, Config>> = {
  llama: tiny.llama({ rope_theta: 500000 }),
  mistral: tiny.mistral({ sliding_window: null }),
  qwen2: tiny.qwen2(),
  qwen3: tiny.qwen3(),
  gemma2: tiny.gemma2({ query_pre_attn_scalar: 12, ...WINDOWS }),
  gemma3_text: tiny.gemma3_text({ query_pre_attn_scalar: 12, sliding_window_pattern: 6, ...WINDOWS }),
  phi3: tiny.phi3(WINDOWS),
};

/** A tokenizer of bytes, as GPT-2's, with a merge. */
const TOKENIZER = {
  version: "1.0",
  added_tokens: [
    { id: 5, content: "<s>", special: true, single_word: false, lstrip: false, rstrip: false, normalized: false },
  ],
  pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
  decoder: { type: "ByteLevel" },
  model: { type: "BPE", vocab: { a: 0, b: 1, c: 2, ab: 3, Ġ: 4 }, merges: [["a", "b"]] },
};
const TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}";
const TOKENIZER_CONFIG = { bos_token: "<s>", eos_token: "<s>", chat_template: TEMPLATE };

/** Numbers that tell every element of every tensor from the others, small enough for 16 bits. */
const numbers = (count: number, seed: number): Float32Array =>
  Float32Array.from({ length: count }, (_, i) => Math.fround(Math.sin(1 + i * 0.7 + seed)));

async function modelFolder(config: Config, change: (name: string, data: Float32Array) => void = () => undefined) {
  const directory = memoryDirectory("memory");
  const tensors = createModel(config).parameters.map(({ name, shape }, i) => {
    const data = numbers(elements(shape), i);
    change(name, data);
    return { name, shape, dtype: "f32" as const, data };
  });
  await writeCheckpoint(directory, config, tensors, [
    { file: "tokenizer.json", content: jsonBytes(TOKENIZER) },
    { file: "tokenizer_config.json", content: jsonBytes(TOKENIZER_CONFIG) },
  ]);
  return { directory, tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])) };
}

async function save(directory: Directory, adapter: Adapter, model: Model, values: Tensors): Promise<void> {
  const { config, tensors } = adapterFile(adapter, model, values);
  const written = [...tensors].map(([name, { shape, data }]) => ({ name, shape, dtype: "f32" as const, data }));
  await writeAdapterDirectory(directory, config, written);
}

const FORMATS: Readonly<Record<number, GgufFormat>> = { 0: "f32", 1: "f16", 8: "q8_0" };

/** A written file as an independent parser reads it, and the elements of its tensors. */
async function parsed(file: string) {
  const { metadata, tensorInfos, tensorDataOffset } = await gguf(file, { allowLocalFile: true });
  const bytes = readFileSync(file);
  const tensors = tensorInfos.map(({ name, shape, dtype, offset }) => {
    const sizes = shape.map(Number);
    const start = Number(tensorDataOffset + offset);
    const count = sizes.reduce((a, b) => a * b, 1);
    const format = FORMATS[dtype]!;
    const data = bytes.buffer.slice(bytes.byteOffset + start, bytes.byteOffset + start + count * 4);
    const values = format === "f32" ? new Float32Array(data) : decodeF16(new Uint16Array(data, 0, count));
    return [name, { shape: sizes.reverse(), format, values, end: start + count * (format === "f32" ? 4 : 2) }] as const;
  });
  expect(Math.max(...tensors.map(([, { end }]) => end)), "end of the data").toBeLessThanOrEqual(bytes.length);
  // The parser's type has a member for each key that it knows.
  return { metadata: metadata as unknown as Record<string, unknown>, tensors: new Map(tensors) };
}

describe("names in GGUF", () => {
  it.each(Object.entries(llamaCpp.names))("are those of llama.cpp's package for %s", (architecture, names) => {
    const family = Object.keys(CONFIGS).find(
      (name) => ggufFamily(createModel(CONFIGS[name]!)).architecture === architecture,
    );
    const model = createModel(CONFIGS[family!]!);
    const modules = new Set(model.parameters.map(({ name }) => name.replace(/\.(?:weight|bias)$/, "")));
    expect(modules.size).toBeGreaterThan(10);
    // The package has no layer 2 there, and layer 1 is as layer 0.
    for (const module of [...modules].filter((each) => !/layers\.[02]\./.test(each))) {
      expect(ggufModule(ggufFamily(model), module), module).toBe(names[module]);
    }
  });
});

it("Q8_0 has the bytes of llama.cpp's package", () => {
  const { values, bytes } = llamaCpp.q8_0;
  expect([...encodeTensor("w", Float32Array.from(values), "q8_0")]).toEqual(bytes);
});

/** Rows as the official converter reorders them: halves of each head, [heads, 2, size / 2], with the last two axes swapped. */
function permuted(values: Float32Array, rows: number, heads: number): number[] {
  const [width, half] = [values.length / rows, rows / heads / 2];
  const result: number[] = [];
  for (let head = 0; head < heads; head++)
    for (let i = 0; i < half; i++)
      for (const part of [0, 1]) {
        const row = (head * 2 + part) * half + i;
        result.push(...values.subarray(row * width, (row + 1) * width));
      }
  return result;
}

describe.each(Object.entries(CONFIGS))("a model of %s", (name, config) => {
  const model = createModel(config);
  const { architecture, interleaves = false, normOffset = 0 } = ggufFamily(model);
  const heads: Readonly<Record<string, number>> = {
    q_proj: Number(config["num_attention_heads"]),
    k_proj: Number(config["num_key_value_heads"] ?? 4),
  };

  it("has its tensors, sizes, tokenizer and chat template", async () => {
    const { directory, tensors } = await modelFolder(config);
    const count = await exportGgufModel(directory, { directory: path(), format: "f32", name });
    const file = await parsed(path("model.gguf"));
    expect(file.tensors.size).toBe(count);
    expect(count).toBe(tensors.size);
    for (const [parameter, { shape, data }] of tensors) {
      const [, module = "", kind = ""] = /^(.*)\.(weight|bias)$/.exec(parameter)!;
      const written = file.tensors.get(`${ggufModule(ggufFamily(model), module)}.${kind}`)!;
      expect(written.shape, parameter).toEqual(shape);
      const [, projection] = /(q_proj|k_proj)$/.exec(module) ?? [];
      const ofHeads = interleaves && projection ? heads[projection] : undefined;
      const offset = shape.length === 1 && kind === "weight" ? normOffset : 0;
      const shifted = data.map((value) => value + offset);
      const expected = ofHeads === undefined ? [...shifted] : permuted(shifted, shape[0]!, ofHeads);
      expect([...written.values], parameter).toEqual(expected);
    }
    expect(file.metadata).toMatchObject({
      "general.architecture": architecture,
      "general.name": name,
      [`${architecture}.block_count`]: config["num_hidden_layers"],
      [`${architecture}.attention.head_count`]: heads.q_proj,
      [`${architecture}.embedding_length`]: config["hidden_size"],
      [`${architecture}.context_length`]: model.maxLength,
      "tokenizer.ggml.model": "gpt2",
      "tokenizer.ggml.pre": "gpt-2",
      "tokenizer.ggml.merges": ["a b"],
      "tokenizer.ggml.bos_token_id": 5,
      "tokenizer.chat_template": TEMPLATE,
    });
    // An array of strings, as its metadata says.
    const tokens = file.metadata["tokenizer.ggml.tokens"] as string[];
    expect(tokens).toHaveLength(Number(config["vocab_size"]));
    expect(tokens.slice(0, 7)).toEqual(["a", "b", "c", "ab", "Ġ", "<s>", "[PAD6]"]);
  });

  it("has a LoRA of all its projections, whose rows are in the model's order", async () => {
    const { directory } = await modelFolder(config);
    const [rank, alpha] = [2, 6];
    const adapter = lora({ rank, alpha, targets: "all-linear" });
    const tensors = adapter.tensors(model).map((tensor, i) => {
      return [tensor.name, { shape: tensor.shape, data: numbers(elements(tensor.shape), i) }] as const;
    });
    const saved = memoryDirectory("memory");
    await save(saved, adapter, model, new Map(tensors));
    const modules = await exportGgufAdapter(saved, { model: directory, directory: path() });
    const file = await parsed(path("adapter.gguf"));
    expect(modules).toBe(tensors.length / 2);
    expect(file.metadata).toMatchObject({
      "general.type": "adapter",
      "general.architecture": architecture,
      "adapter.type": "lora",
      "adapter.lora.alpha": alpha,
    });
    for (const [key, { shape, data }] of tensors) {
      const [, module = "", part = ""] = /^(.*)\.lora_([AB])\.weight$/.exec(key)!;
      const written = file.tensors.get(`${ggufModule(ggufFamily(model), module)}.weight.lora_${part.toLowerCase()}`)!;
      const [, projection] = /(q_proj|k_proj)$/.exec(module) ?? [];
      const ofHeads = part === "B" && interleaves && projection ? heads[projection] : undefined;
      expect(written.shape, key).toEqual(shape);
      expect([...written.values], key).toEqual(ofHeads === undefined ? [...data] : permuted(data, shape[0]!, ofHeads));
    }
  });
});

it("Phi-3's and LLaMA 3's positions are scaled as the model scales them", async () => {
  const written = async (config: Config) => {
    const { directory } = await modelFolder(config);
    await exportGgufModel(directory, { directory: path(), format: "f32" });
    return parsed(path("model.gguf"));
  };
  // Without original_max_position_embeddings, Phi-3 has 4096 (transformers' Phi3Config).
  const longrope = { type: "longrope", long_factor: [2, 4, 8, 16], short_factor: [1, 1, 1.5, 2] };
  const phi = await written(tiny.phi3({ ...WINDOWS, max_position_embeddings: 131072, rope_scaling: longrope }));
  expect(phi.metadata["phi3.rope.scaling.original_context_length"]).toBe(4096);
  expect(phi.metadata["phi3.rope.scaling.attn_factor"]).toBeCloseTo(Math.sqrt(1 + Math.log(32) / Math.log(4096)), 6);
  expect([...phi.tensors.get("rope_factors_long.weight")!.values]).toEqual([2, 4, 8, 16]);
  const llama3 = { rope_type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4 };
  const scaled = { ...llama3, original_max_position_embeddings: 64 };
  const llama = await written(tiny.llama({ rope_theta: 10000, rope_scaling: scaled }));
  // Within 64 tokens the first pair turns more than four times, and stays; the last less than once, and is 8 times slower.
  const divisors = [...llama.tensors.get("rope_freqs.weight")!.values];
  expect(divisors).toHaveLength(4);
  expect(divisors[0]).toBeCloseTo(1, 6);
  expect(divisors[3]).toBeCloseTo(8, 5);
});

it("is written in one piece up to the first tensor, however many tokens and merges there are", async () => {
  const strings = Array.from({ length: 20_000 }, (_, i) => `token ${i}`);
  const metadata = {
    "tokenizer.ggml.tokens": { strings },
    "tokenizer.ggml.token_type": { i32s: strings.map(() => 1) },
  };
  const pieces: Uint8Array[] = [];
  for await (const piece of ggufContent(metadata, [])) pieces.push(piece);
  expect(pieces).toHaveLength(1);
  writeFileSync(path("tokens.gguf"), pieces[0]!);
  const read = await parsed(path("tokens.gguf"));
  expect(read.metadata["tokenizer.ggml.tokens"]).toEqual(strings);
});

describe("a LoRA in GGUF", () => {
  const model = createModel(CONFIGS["qwen3"]!);
  const tensorsOf = (shapes: readonly { readonly name: string; readonly shape: readonly number[] }[]) =>
    new Map(shapes.map(({ name, shape }, i) => [name, { shape, data: numbers(elements(shape), i) }]));

  it("has factors that one alpha cannot say in B: llama.cpp multiplies by alpha / rank", async () => {
    const { directory } = await modelFolder(CONFIGS["qwen3"]!);
    const adapter = lora({ rank: 4, alpha: 8, targets: ["q_proj", "v_proj"], rankStabilised: true });
    const saved = memoryDirectory("memory");
    await save(saved, adapter, model, tensorsOf(adapter.tensors(model)));
    const config = await readJson(saved, "adapter_config.json", v.looseObject({}));
    await saved.write("adapter_config.json", jsonBytes({ ...config, alpha_pattern: { v_proj: 2 } }));
    await exportGgufAdapter(saved, { model: directory, directory: path() });
    const { metadata, tensors } = await parsed(path("adapter.gguf"));
    const alpha = Number(metadata["adapter.lora.alpha"]);
    const stored = await readFloatTensors(saved, "adapter_model.safetensors");
    for (const [projection, ofModule] of [
      ["q_proj", 8],
      ["v_proj", 2],
    ] as const) {
      const key = `base_model.model.model.layers.0.self_attn.${projection}.lora_B.weight`;
      const written = tensors.get(`blk.0.attn_${projection[0]}.weight.lora_b`)!.values;
      const scale = ofModule / Math.sqrt(4);
      stored.get(key)!.data.forEach((value, i) => expect((alpha / 4) * written[i]!).toBeCloseTo(scale * value, 5));
    }
  });

  it.each<[string, object, RegExp]>([
    ["DoRA", { use_dora: true }, /is a DoRA/],
    ["biases", { bias: "all" }, /trains biases \(bias: all\)/],
    ["another kind", { peft_type: "IA3" }, /is of kind IA3/],
  ])("is refused for %s, and writes nothing", async (_, change, message) => {
    const { directory } = await modelFolder(CONFIGS["qwen3"]!);
    const adapter = lora({ rank: 2 });
    const saved = memoryDirectory("memory");
    await save(saved, adapter, model, tensorsOf(adapter.tensors(model)));
    const config = await readJson(saved, "adapter_config.json", v.looseObject({}));
    await saved.write("adapter_config.json", jsonBytes({ ...config, ...change }));
    const out: Directory = memoryDirectory("memory");
    const error = await failure(exportGgufAdapter(saved, { model: directory, directory: out }), ConfigError);
    expect(error.message).toMatch(message);
    expect(await out.list()).toEqual([]);
  });
});

describe("a model is refused, and nothing is written,", () => {
  const refused = async (config: Config, message: RegExp) => {
    const { directory } = await modelFolder(config);
    const out = memoryDirectory("memory");
    expect((await failure(exportGgufModel(directory, { directory: out }), ConfigError)).message).toMatch(message);
    expect(await out.list()).toEqual([]);
  };

  it.each<[string, Config, RegExp]>([
    ["of a family that is not exported", tiny.olmo2(), /no export of olmo2/],
    ["for a window that llama.cpp does not have", tiny.mistral({ sliding_window: 4 }), /sliding_window is 4/],
    ["for another scale", tiny.gemma2({ query_pre_attn_scalar: 100 }), /query_pre_attn_scalar is 100/],
    [
      "for another rotation in windows",
      tiny.gemma3_text({
        query_pre_attn_scalar: 12,
        sliding_window_pattern: 6,
        rope_parameters: {
          full_attention: { rope_type: "default", rope_theta: 1e6 },
          sliding_attention: { rope_type: "default", rope_theta: 20000 },
        },
      }),
      /rope_parameters is .*20000.*\nIt runs such models with a rope_theta of 10000/,
    ],
    ["for other layers with windows", tiny.gemma3_text({ query_pre_attn_scalar: 12 }), /sliding_window_pattern is 2/],
  ])("%s", (_, config, message) => refused(config, message));

  it("whose tokenizer has no name there", async () => {
    const { directory } = await modelFolder(CONFIGS["qwen3"]!);
    const other = { ...TOKENIZER, pre_tokenizer: { type: "Sequence", pretokenizers: [{ type: "Whitespace" }] } };
    await directory.write("tokenizer.json", jsonBytes(other));
    const out = memoryDirectory("memory");
    const error = await failure(exportGgufModel(directory, { directory: out }), ConfigError);
    expect(error.message).toMatch(/splits texts by .*Whitespace.*\nExport the LoRA alone/);
    expect(await out.list()).toEqual([]);
  });

  it.each(["f16", "q8_0"] as const)("with an element that %s cannot hold, which is named", async (format) => {
    const big = "model.layers.0.mlp.up_proj.weight";
    const { directory } = await modelFolder(CONFIGS["qwen3"]!, (name, data) => {
      if (name === big) data[3] = 1e8;
    });
    const out = memoryDirectory("memory");
    const error = await failure(exportGgufModel(directory, { directory: out, format }), DtypeError);
    expect(error.message).toMatch(/up.weight has the element 100000000, which 16 bits cannot hold/);
    expect(await out.list()).toEqual([]);
  });
});

describe("safetape export --gguf", () => {
  it("writes a model and a LoRA of it", async () => {
    const config = CONFIGS["llama"]!;
    const { directory } = await modelFolder(config);
    for (const file of await directory.list()) writeFileSync(path(file), await directory.read(file));
    const adapter = lora({ rank: 2 });
    const model = createModel(config);
    const tensors = adapter.tensors(model).map(({ name, shape }, i) => {
      return [name, { shape, data: numbers(elements(shape), i) }] as const;
    });
    mkdirSync(path("lora"));
    await save(await openDirectory(path("lora")), adapter, model, new Map(tensors));
    const ofModel = await runCli(["export", "--gguf", "--model", path(), "--format", "f16", "--out", path("m.gguf")]);
    expect(ofModel).toMatchObject({ code: 0, stderr: "" });
    expect((await parsed(path("m.gguf"))).tensors.get("blk.0.attn_q.weight")?.format).toBe("f16");
    const ofLora = await runCli([
      "export",
      "--gguf",
      "--model",
      path(),
      "--adapter",
      path("lora"),
      "--out",
      path("a.gguf"),
    ]);
    expect(ofLora).toMatchObject({ code: 0, stderr: "" });
    expect(ofLora.stdout).toBe(`LoRA of ${tensors.length / 2} modules in ${path("a.gguf")}\n`);
    expect((await parsed(path("a.gguf"))).tensors.size).toBe(tensors.length);
  });

  it("says what is missing", async () => {
    const { code, stderr } = await runCli(["export", "--model", path()]);
    expect(code).not.toBe(0);
    expect(stderr).toMatch(/^No format was chosen\.\nGive --gguf\.$/);
  });
});
