import { describe, expect, it } from "vitest";
import { ConfigError, FileFormatError, loadModel, lora, memoryDirectory, openDirectory } from "safetape";
import type { Directory, LoadedModel } from "safetape";
import { adapterLogits, batchOf } from "../../scripts/interop-case";
import { quantisedRow } from "../../src/base/packed";
import { readBuffer } from "../../src/gpu/readback";
import { jsonBytes } from "../../src/io/json";
import { readSafetensors } from "../../src/io/safetensors";
import { rawSafetensors, readRaw } from "../support/checkpoints";
import { useEngine } from "../support/engine";

const DATA = "test/interop/quantised";
const FIXTURES = ["bert-nf4", "bert-int8", "llama-nf4-double", "gpt2-nf4-double", "gpt2-int8"];
const open = (fixture: string): Promise<Directory> => openDirectory(`${DATA}/${fixture}`);

const engine = await useEngine();

describe.each(FIXTURES)("%s", (fixture) => {
  it("gives the logits that transformers gives with the dequantised weights", async () => {
    const directory = await open(fixture);
    const expected = await readSafetensors(directory, "expected.safetensors");
    using model = await loadModel(engine, directory);
    const { data } = await adapterLogits(model, lora({ rank: 1 }), new Map(), batchOf(expected, 16));
    const wanted = expected.get("logits")?.data as Float32Array;
    const largest = Math.max(...wanted.map(Math.abs));
    expect(data).toHaveLength(wanted.length);
    data.forEach((value, i) => expect(Math.abs(value - wanted[i]!) / largest, `logit ${i}`).toBeLessThan(5e-6));
    expect(model.model.config["quantization_config"], "what is saved again is not quantised").toBeUndefined();
  });
});

describe("a file in NF4 loaded into NF4", () => {
  /** The code of every element of a weight whose rows are whole blocks, in order. */
  async function codesOf(model: LoadedModel, name: string): Promise<number[]> {
    const tensor = model.weights.get(name)!;
    const [rows = 0, columns = 0] = tensor.shape;
    const words = new Uint32Array(await readBuffer(engine.device, tensor.lease));
    const { total } = quantisedRow("nf4", columns);
    return Array.from({ length: rows * columns }, (_, i) => {
      const column = i % columns;
      return (words[Math.floor(i / columns) * total + (column >> 3)]! >>> (4 * (column & 7))) & 15;
    });
  }

  it("has the file's own codes where blocks are whole rows", async () => {
    const directory = await open("llama-nf4-double");
    const raw = await readRaw(directory, "model.safetensors");
    using model = await loadModel(engine, directory, { weights: "nf4" });
    for (const module of ["self_attn.q_proj", "self_attn.v_proj", "mlp.gate_proj"]) {
      const name = `model.layers.0.${module}.weight`;
      const bytes = [...(raw.get(name)?.bytes ?? [])];
      expect(await codesOf(model, name), name).toEqual(bytes.flatMap((byte) => [byte >> 4, byte & 15]));
    }
  });
});

describe("quantised files that cannot be used leave no memory behind", () => {
  /** The fixture in memory, with another configuration or other tensors. */
  async function changed(
    fixture: string,
    change: (config: Record<string, unknown>, tensors: Awaited<ReturnType<typeof readRaw>>) => void,
  ): Promise<Directory> {
    const directory = await open(fixture);
    const config = JSON.parse(new TextDecoder().decode(await directory.read("config.json"))) as Record<string, unknown>;
    const tensors = await readRaw(directory, "model.safetensors");
    change(config, tensors);
    const files = { "config.json": jsonBytes(config), "model.safetensors": rawSafetensors(tensors) };
    return memoryDirectory("changed", files);
  }

  it("of another method", async () => {
    const directory = await changed("bert-nf4", (config) => (config["quantization_config"] = { quant_method: "gptq" }));
    await expect(loadModel(engine, directory)).rejects.toThrow(ConfigError);
  });

  it("of a wrong block size", async () => {
    const directory = await changed("bert-nf4", (_, tensors) => {
      const key = "bert.encoder.layer.1.output.dense.weight.quant_state.bitsandbytes__nf4";
      const { bytes } = tensors.get(key)!;
      const told = new TextEncoder().encode(new TextDecoder().decode(bytes).replace("64", "32"));
      tensors.set(key, { dtype: "U8", shape: [told.length], bytes: told });
    });
    const load = loadModel(engine, directory);
    await expect(load).rejects.toThrow(FileFormatError);
    await expect(load).rejects.toThrow(/layer\.1\.output.* scales of blocks of 32/);
  });

  it.each([Number.NaN, Infinity])("with %f for a scale, found half way", async (value) => {
    const directory = await changed("bert-nf4", (_, tensors) => {
      const key = "bert.encoder.layer.1.output.dense.weight.absmax";
      const { bytes } = tensors.get(key)!;
      new DataView(bytes.buffer, bytes.byteOffset).setFloat32(4, value, true);
    });
    const load = loadModel(engine, directory, { weights: "nf4" });
    await expect(load).rejects.toThrow(FileFormatError);
    await expect(load).rejects.toThrow(/layer\.1\.output\.dense\.weight in changed has .* as its element \d+/);
  });
});
