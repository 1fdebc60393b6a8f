import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { DtypeError, FileFormatError } from "../../src/base/errors";
import { openCheckpoint, readConfig, writeCheckpoint } from "../../src/io/checkpoint";
import { contentBytes, memoryDirectory } from "../../src/io/directory";
import type { Directory } from "../../src/io/directory";
import { jsonBytes } from "../../src/io/json";
import { safetensorsContent } from "../../src/io/safetensors-write";
import { openDirectory } from "../../src/node/directory";
import { failure } from "../support/failure";

const DATA = fileURLToPath(new URL("../interop-data/", import.meta.url));

async function shard(name: string, value: number): Promise<Uint8Array> {
  return contentBytes(safetensorsContent([{ name, shape: [1], data: Float32Array.of(value) }]));
}

async function sharded(weightMap: unknown, missing?: string): Promise<Directory> {
  const files: Record<string, Uint8Array> = {
    "config.json": jsonBytes({ model_type: "bert" }),
    "model.safetensors.index.json": jsonBytes({ metadata: { total_size: 8 }, weight_map: weightMap }),
    "model-00001-of-00002.safetensors": await shard("a", 1),
    "model-00002-of-00002.safetensors": await shard("b", 2),
  };
  return memoryDirectory(
    "sharded",
    Object.entries(files).filter(([name]) => name !== missing),
  );
}

const MAP = { a: "model-00001-of-00002.safetensors", b: "model-00002-of-00002.safetensors" };

describe("openCheckpoint", () => {
  test("reads names, shapes and configuration of a BERT that transformers wrote", async () => {
    const checkpoint = await openCheckpoint(await openDirectory(join(DATA, "bert/base")));
    expect(checkpoint.config).toMatchObject({ model_type: "bert", hidden_size: 32, layer_norm_eps: 1e-12 });
    expect(checkpoint.names().length).toBe(57);
    expect(checkpoint.info("bert.embeddings.word_embeddings.weight")).toEqual({
      dtype: "F32",
      shape: [83, 32],
      bytes: 4 * 83 * 32,
    });
    const words = await checkpoint.read("bert.embeddings.word_embeddings.weight");
    expect(words.length).toBe(83 * 32);
    expect(Math.hypot(...words.subarray(32))).toBeGreaterThan(0);
    expect(checkpoint.has("bert.embeddings.word_embeddings.weight")).toBe(true);
    expect(checkpoint.has("__proto__")).toBe(false);
  });

  test("reads shards", async () => {
    const checkpoint = await openCheckpoint(await sharded(MAP));
    expect(checkpoint.names()).toEqual(["a", "b"]);
    expect([...(await checkpoint.read("a")), ...(await checkpoint.read("b"))]).toEqual([1, 2]);
  });

  test.each([
    [
      "torch.compile and DataParallel",
      ["module._orig_mod.a.weight", "module._orig_mod.b._orig_mod.weight"],
      ["module.", "_orig_mod."],
    ],
    [
      "FSDP with checkpointed activations, Lightning",
      ["_forward_module._fsdp_wrapped_module.a.weight", "_forward_module.b._checkpoint_wrapped_module.weight"],
      ["_fsdp_wrapped_module.", "_forward_module.", "_checkpoint_wrapped_module."],
    ],
    ["PEFT", ["base_model.model.a.weight", "base_model.model.b.weight"], ["base_model.model."]],
    ["no wrapper", ["a.weight", "b.module.weight"], []],
    ["two tensors that would become one", ["module.a.weight", "a.weight"], []],
  ])("takes off the names what wrappers put there: %s", async (_, names, removed) => {
    const tensors = names.map((name, i) => ({ name, shape: [1], data: Float32Array.of(i) }));
    const weights = await contentBytes(safetensorsContent(tensors));
    const files = { "config.json": jsonBytes({ model_type: "bert" }), "model.safetensors": weights };
    const checkpoint = await openCheckpoint(memoryDirectory("wrapped", Object.entries(files)));
    const expected = removed.length > 0 ? ["a.weight", "b.weight"] : names;
    expect([checkpoint.names().sort(), [...checkpoint.removed].sort()]).toEqual([expected.sort(), removed.sort()]);
    expect(await Promise.all(expected.map((name) => checkpoint.read(name)))).toHaveLength(2);
  });

  test("names the shard that is missing", async () => {
    const directory = await sharded(MAP, "model-00002-of-00002.safetensors");
    await expect(openCheckpoint(directory)).rejects.toThrow(/shard model-00002-of-00002.safetensors.*is missing/);
  });

  test.each(["../a.safetensors", "/etc/passwd", "x/y.safetensors", "..", ".", "", "x\\y", "a\0b", "a\nb"])(
    "refuses the shard name %j",
    async (name) => {
      const error = await failure(openCheckpoint(await sharded({ a: name })), FileFormatError);
      expect(error.message).toMatch(/is not a valid name for a file/);
    },
  );

  test("names a tensor that is not in its shard", async () => {
    const directory = await sharded({ ...MAP, c: MAP.a });
    await expect(openCheckpoint(directory)).rejects.toThrow(/places "c" in model-00001-of-00002.safetensors/);
  });

  test.each([
    ["a missing config.json", { "model.safetensors": new Uint8Array(0) }, /no file config.json/],
    ["a config.json that is a list", { "config.json": jsonBytes([]) }, /config.json in m contains an array/],
    ["a config.json cut off", { "config.json": new TextEncoder().encode('{"model_type": "be') }, /not valid JSON/],
    ["a model_type that is no text", { "config.json": jsonBytes({ model_type: 3 }) }, /model_type/],
    ["no weights", { "config.json": jsonBytes({}) }, /neither model.safetensors nor/],
    [
      "pickled weights only",
      { "config.json": jsonBytes({}), "pytorch_model.bin": new Uint8Array(1) },
      /pytorch_model.bin is a pickle/,
    ],
    [
      "an index without a map",
      { "config.json": jsonBytes({}), "model.safetensors.index.json": jsonBytes({}) },
      /index.json in m: .*weight_map/,
    ],
  ])("refuses %s", async (_, files, message) => {
    // Every file of these cases is bytes.
    const directory = memoryDirectory("m", files as Record<string, Uint8Array>);
    expect((await failure(openCheckpoint(directory), FileFormatError)).message).toMatch(message);
  });

  test("names existing tensors for an unknown one, and the type of an integer tensor", async () => {
    const directory = memoryDirectory("m");
    await writeCheckpoint(directory, {}, [
      { name: "x.weight", shape: [1], data: Float32Array.of(1) },
      { name: "position_ids", shape: [1], data: Int32Array.of(1) },
    ]);
    const checkpoint = await openCheckpoint(directory);
    await expect(checkpoint.read("y.weight")).rejects.toThrow(/no tensor "y.weight" in .*\n.*"x.weight"/);
    expect(() => checkpoint.info("y")).toThrow(FileFormatError);
    await expect(checkpoint.read("position_ids")).rejects.toThrow(DtypeError);
  });

  test("reads label tables whatever their names and ids are", async () => {
    const config = { model_type: "bert", id2label: { 0: 0, 1: null }, label2id: { 0: "0", b: 1.5 } };
    expect(await readConfig(memoryDirectory("x", { "config.json": jsonBytes(config) }))).toEqual(config);
    const broken = memoryDirectory("x", { "config.json": jsonBytes({ id2label: 3 }) });
    expect((await failure(readConfig(broken), FileFormatError)).message).toMatch(/id2label/);
  });

  test("changes no prototype for a hostile configuration", async () => {
    const json = '{"__proto__": {"polluted": 1}, "constructor": {"prototype": {"polluted": 1}}, "model_type": "bert"}';
    const config = await readConfig(memoryDirectory("m", { "config.json": new TextEncoder().encode(json) }));
    expect(config["model_type"]).toBe("bert");
    expect(config["polluted"]).toBeUndefined();
    // Asks for a key that a polluted prototype would have.
    expect(({} as Record<string, unknown>)["polluted"]).toBeUndefined();
  });
});

describe("writeCheckpoint", () => {
  test("copies a checkpoint bit for bit", async () => {
    const original = await openCheckpoint(await openDirectory(join(DATA, "gpt2/base")));
    const directory = memoryDirectory("copy");
    const tensors = original.names().map((name) => ({
      name,
      shape: original.info(name).shape,
      data: () => original.read(name),
    }));
    await writeCheckpoint(directory, original.config, tensors);
    expect(await directory.list()).toEqual(["config.json", "model.safetensors"]);
    const copy = await openCheckpoint(directory);
    expect(copy.config).toEqual(original.config);
    const [ours, theirs] = [directory, original.directory].map((each) => each.read("model.safetensors"));
    expect(Buffer.compare((await ours)!, (await theirs)!), "the files' bytes differ").toBe(0);
  });

  test("writes as floats what transformers reads as floats alone, and whole numbers as they are", async () => {
    const written = async (config: Record<string, unknown>): Promise<string> => {
      const directory = memoryDirectory("m");
      await writeCheckpoint(directory, config, [{ name: "x", shape: [1], data: Float32Array.of(1) }]);
      return new TextDecoder().decode(await directory.read("config.json"));
    };
    const rope = { rope_type: "llama3", factor: 8, low_freq_factor: 1, original_max_position_embeddings: 8192 };
    const gemma = { model_type: "gemma2", attn_logit_softcapping: 50, final_logit_softcapping: null, num_layers: 2 };
    const text = await written({ ...gemma, rms_norm_eps: 1e-6, initializer_factor: 1, rope_scaling: rope });
    for (const part of ['softcapping": 50.0,', 'final_logit_softcapping": null,', 'num_layers": 2,', 'eps": 0.000001,'])
      expect(text).toContain(part);
    for (const part of ['initializer_factor": 1.0,', 'factor": 8.0,', 'low_freq_factor": 1.0,', 'embeddings": 8192\n'])
      expect(text).toContain(part);
    // Of whole numbers DINOv2's is one, Swin v2's is not.
    expect(await written({ model_type: "swinv2", mlp_ratio: 4 })).toContain('mlp_ratio": 4.0,');
    expect(await written({ model_type: "dinov2", mlp_ratio: 4 })).toContain('mlp_ratio": 4,');
  });

  test("leaves the directory as it was when a tensor cannot be read", async () => {
    const directory = memoryDirectory("m");
    await writeCheckpoint(directory, { version: 1 }, [{ name: "x", shape: [1], data: Float32Array.of(1) }]);
    const failing = { name: "x", shape: [1], data: () => Promise.reject(new Error("device lost")) };
    await expect(writeCheckpoint(directory, { version: 2 }, [failing])).rejects.toThrow("device lost");
    const checkpoint = await openCheckpoint(directory);
    expect([checkpoint.config["version"], ...(await checkpoint.read("x"))]).toEqual([1, 1]);
  });
});
