import { describe, expect, it } from "vitest";
import { ia3, initialiseModel, loadAdapter, loadModel, lora, saveAdapter, saveMerged, Trainer } from "safetape";
import { Batches, memoryDirectory } from "safetape/data";
import { FileFormatError } from "safetape/engine";
import type { Adapter, LoadedModel } from "safetape";
import { adapterLogits } from "../../scripts/interop-case";
import { relativeError } from "../../src/base/relative-error";
import { randomTensors, wholeCheckpoint } from "../support/checkpoints";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { parseJson } from "../support/json";
import { tiny } from "../support/tiny";

const engine = await useEngine();
const ids = [4, 9, 17, 30, 22, 8, 11].map((first) => Int32Array.from({ length: 6 }, (_, i) => (first + 7 * i) % 50));
const samples = ids.map((row) => ({ ids: row, label: row }));
const data = () => new Batches(samples, { size: 7, shuffle: false, labels: "token" });

const CONFIGS = {
  llama: tiny.llama({ tie_word_embeddings: true, initializer_range: 0.2 }),
  gpt2: tiny.gpt2({ initializer_range: 0.2, resid_pdrop: 0, embd_pdrop: 0, attn_pdrop: 0 }),
};
const TABLES = { llama: "model.embed_tokens.weight", gpt2: "transformer.wte.weight" };

interface Saved {
  readonly names: readonly string[];
  readonly isEnsured?: boolean;
  /** Whether the merged model's table, and its last projection, are those that were trained. */
  readonly learns: { readonly table: boolean; readonly output: boolean };
}

/** What is saved of a table and of the projection that shares it. */
const CASES = (table: string): readonly Saved[] => [
  { names: [table], learns: { table: true, output: false } },
  { names: ["lm_head"], learns: { table: false, output: true } },
  { names: [table, "lm_head"], learns: { table: true, output: true } },
  { names: ["lm_head"], isEnsured: true, learns: { table: true, output: true } },
];

const RUNS = (["llama", "gpt2"] as const).flatMap((family) =>
  CASES(family === "llama" ? "embed_tokens" : "wte").map((saved) => ({ family, ...saved })),
);

/** A trained adapter's logits, and those of its files and of the merged model. */
async function roundTrip(model: LoadedModel, adapter: Adapter) {
  const batch = data().next();
  using trainer = await Trainer.create({ model, adapter, data: data(), steps: 4, optimizer: { learningRate: 2e-2 } });
  await trainer.train();
  const logits = await adapterLogits(model, adapter, await trainer.snapshot(), batch);
  const [files, merged] = [memoryDirectory("adapter"), memoryDirectory("merged")];
  await saveAdapter(files, trainer);
  await saveMerged(merged, trainer);
  const again = await loadAdapter(files, model);
  const loaded = await adapterLogits(model, again.adapter, again.tensors, batch);
  using complete = await loadModel(engine, merged);
  const none = lora({ rank: 1 });
  using untouched = await Trainer.create({ model: complete, adapter: none, data: data(), steps: 1 });
  const plain = await adapterLogits(complete, none, await untouched.snapshot(), batch);
  const weight = async (name: string): Promise<Float32Array | undefined> => complete.weights.get(name)?.read();
  return {
    loaded: relativeError(loaded.data, logits.data),
    merged: relativeError(plain.data, logits.data),
    config: complete.model.config,
    output: await weight("lm_head.weight"),
    table: await weight(model.model.wordEmbeddings!),
    keys: new Set(again.tensors.keys()),
  };
}

describe.each(RUNS)("$family with $names saved, together: $isEnsured", ({ family, names, isEnsured, learns }) => {
  it("trains what PEFT trains, and computes the same from its files and merged", async () => {
    using model = await initialiseModel(engine, CONFIGS[family]);
    const original = await model.weights.get(TABLES[family])!.read();
    const adapter = lora({ rank: 2, modulesToSave: names, ensureWeightTying: isEnsured ?? false });
    const { loaded, merged, config, output, table } = await roundTrip(model, adapter);
    expect(loaded).toBe(0);
    expect(merged).toBeLessThan(2e-5);
    expect(relativeError(table!, original) > 0, "the table learns").toBe(learns.table);
    expect(config["tie_word_embeddings"] ?? true).toBe(isEnsured ?? false);
    if (isEnsured) expect(output).toBeUndefined();
    else expect(relativeError(output!, original) > 0, "the projection learns").toBe(learns.output);
    if (!isEnsured && learns.table && learns.output) expect(relativeError(output!, table!)).toBeGreaterThan(0);
  });
});

it("every adapter of projections may save a table", async () => {
  using model = await initialiseModel(engine, CONFIGS.llama);
  const { loaded, merged, keys } = await roundTrip(model, ia3({ modulesToSave: ["embed_tokens"] }));
  expect(loaded).toBe(0);
  expect(merged).toBeLessThan(2e-5);
  expect(keys.has("lm_head.weight")).toBe(false);
});

describe("a saved table", () => {
  it("is refused where an encoder and a decoder share it, since PEFT trains a copy that nothing reads", async () => {
    for (const [family, name] of [
      ["t5", "shared"],
      ["bart", "shared"],
      ["t5", "lm_head"],
    ] as const) {
      const config = tiny[family](family === "t5" ? { tie_word_embeddings: true } : {});
      using model = await initialiseModel(engine, config);
      const adapter = lora({ modulesToSave: [name] });
      const error = await failure(() => adapter.tensors(model.model));
      expect(error.fact).toMatch(/modules_to_save names the table of this (?:t5|bart) model's embeddings/);
    }
  });

  it("with another table for the projection is refused where they are one", async () => {
    using model = await initialiseModel(engine, CONFIGS.llama);
    const adapter = lora({ rank: 2, modulesToSave: ["embed_tokens"], ensureWeightTying: true });
    using trainer = await Trainer.create({ model, adapter, data: data(), steps: 1 });
    const files = memoryDirectory("adapter");
    await saveAdapter(files, trainer);
    const bytes = await files.read("adapter_model.safetensors");
    // The header's length, then the header: the projection's tensor is the first by name.
    const start = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true));
    new DataView(bytes.buffer).setFloat32(start, 3, true);
    await files.write("adapter_model.safetensors", bytes);
    const error = await failure(loadAdapter(files, model));
    expect(error.fact).toMatch(/has other values for lm_head\.weight than for model\.embed_tokens\.weight/);
  });
});

describe("a checkpoint whose config.json ties the projection to the table", () => {
  const logitsOf = async (names: readonly string[], isTied: boolean, change: (data: Float32Array) => void) => {
    const tensors = randomTensors(CONFIGS.llama).flatMap((tensor) => {
      if (tensor.name !== TABLES.llama) return [tensor];
      const own = Float32Array.from(tensor.data);
      change(own);
      const both = [tensor, { ...tensor, name: "lm_head.weight", data: own }];
      return both.filter(({ name }) => names.includes(name));
    });
    const files = await wholeCheckpoint({ ...CONFIGS.llama, tie_word_embeddings: isTied }, tensors);
    using model = await loadModel(engine, files);
    const none = lora({ rank: 1 });
    using trainer = await Trainer.create({ model, adapter: none, data: data(), steps: 1 });
    const { data: logits } = await adapterLogits(model, none, await trainer.snapshot(), data().next());
    return { logits, config: model.model.config, unused: model.unused };
  };
  const keep = (): void => undefined;
  const both = [TABLES.llama, "lm_head.weight"];

  it("has one table where the file has it twice, or under the projection's name alone", async () => {
    const once = await logitsOf([TABLES.llama], true, keep);
    const twice = await logitsOf(both, true, keep);
    const other = await logitsOf(["lm_head.weight"], true, keep);
    expect(relativeError(twice.logits, once.logits)).toBe(0);
    expect(relativeError(other.logits, once.logits)).toBe(0);
    expect([twice.config["tie_word_embeddings"], twice.unused]).toEqual([true, ["lm_head.weight"]]);
  });

  it("has two where the file has other values for the projection, as in transformers", async () => {
    const change = (own: Float32Array): void => void (own[own.length - 1]! += 2);
    const tied = await logitsOf(both, true, change);
    const untied = await logitsOf(both, false, change);
    expect(relativeError(tied.logits, untied.logits)).toBe(0);
    expect([tied.config["tie_word_embeddings"], tied.unused]).toEqual([false, []]);
    expect(relativeError((await logitsOf(both, true, keep)).logits, untied.logits)).toBeGreaterThan(0);
  });
});

describe.each([
  ["t5", "shared.weight", "decoder.embed_tokens.weight"],
  ["bart", "model.shared.weight", "model.encoder.embed_tokens.weight"],
] as const)("%s's table of both stacks", (family, shared, copy) => {
  const config = tiny[family]();
  const load = async (change: number): Promise<readonly string[]> => {
    const tensors = randomTensors(config).flatMap((tensor) => {
      if (tensor.name !== shared) return [tensor];
      const data = Float32Array.from(tensor.data);
      data[data.length - 1]! += change;
      return [tensor, { ...tensor, name: copy, data }];
    });
    using model = await loadModel(engine, await wholeCheckpoint(config, tensors));
    return model.unused;
  };

  it("may be there twice, and is refused where a stack has other values", async () => {
    expect(await load(0)).toEqual([copy]);
    const { fact } = await failure(load(2), FileFormatError);
    expect(fact).toMatch(new RegExp(`has other values for ${copy} than for ${shared}`));
  });
});

describe("a merged model's directory", () => {
  it("has weights and a config.json in f32, and the files of the tokenizer that it lacks", async () => {
    const config = { ...CONFIGS.llama, dtype: "bfloat16", torch_dtype: "bfloat16" };
    const base = memoryDirectory("base");
    {
      using model = await initialiseModel(engine, config);
      using trainer = await Trainer.create({ model, adapter: lora({ rank: 1 }), data: data(), steps: 1 });
      await saveMerged(base, trainer);
    }
    const text = (json: string): Uint8Array => new TextEncoder().encode(json);
    await base.write("config.json", text(JSON.stringify(config)));
    for (const file of ["tokenizer.json", "chat_template.jinja", "generation_config.json", "notes.txt"]) {
      await base.write(file, text(`{"file":"${file}"}`));
    }
    using model = await loadModel(engine, base);
    using trainer = await Trainer.create({ model, adapter: lora({ rank: 1 }), data: data(), steps: 1 });
    const merged = memoryDirectory("merged");
    await merged.write("generation_config.json", text("{}"));
    await saveMerged(merged, trainer);
    const read = async (file: string): Promise<string> => new TextDecoder().decode(await merged.read(file));
    expect(await merged.list()).toEqual([
      "chat_template.jinja",
      "config.json",
      "generation_config.json",
      "model.safetensors",
      "tokenizer.json",
    ]);
    expect(parseJson(await read("config.json"))).toMatchObject({ dtype: "float32", torch_dtype: "float32" });
    expect(await read("tokenizer.json")).toBe('{"file":"tokenizer.json"}');
    expect(await read("generation_config.json"), "its own").toBe("{}");
    const adapter = memoryDirectory("adapter");
    await saveAdapter(adapter, trainer);
    const { base_model_name_or_path: name } = parseJson<{ base_model_name_or_path: string }>(
      new TextDecoder().decode(await adapter.read("adapter_config.json")),
    );
    expect(name).toBe("base");
  });
});
