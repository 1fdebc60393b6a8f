import { describe, expect, it } from "vitest";
import { loadModel, lora, openDirectory } from "safetape";
import { ConfigError, FileFormatError } from "safetape/engine";
import { memoryDirectory } from "safetape/data";
import type { Directory, LoadedModel } from "safetape";
import { adapterLogits, batchOf } from "../../scripts/interop-case";
import { quantisedRow } from "../../src/base/packed";
import { readBuffer } from "../../src/gpu/readback";
import { jsonBytes } from "../../src/io/json";
import { readSafetensors } from "../../src/io/safetensors";
import { rawSafetensors, readRaw } from "../support/checkpoints";
import type { RawTensor } from "../support/checkpoints";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { parseJson } from "../support/json";

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
    const { data: logits } = expected.get("logits")!;
    const largest = Math.max(...logits.map(Math.abs));
    expect(data).toHaveLength(logits.length);
    data.forEach((value, i) => expect(Math.abs(value - logits[i]!) / largest, `logit ${i}`).toBeLessThan(5e-6));
    expect(model.model.config["quantization_config"], "a saved copy is not quantised").toBeUndefined();
  });
});

describe("a file in NF4 loaded into NF4", () => {
  /** The code of every element of a weight, row by row; each row has to be a whole number of blocks. */
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

  it("keeps the codes of the file where a row is a whole number of blocks", async () => {
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

describe("loading a quantised file leaves no memory behind when it fails for", () => {
  /** A copy of the fixture in memory, changed by `change`. */
  async function changed(
    fixture: string,
    change: (config: Record<string, unknown>, tensors: Map<string, RawTensor>) => void,
  ): Promise<Directory> {
    const directory = await open(fixture);
    const config = parseJson<Record<string, unknown>>(new TextDecoder().decode(await directory.read("config.json")));
    const tensors = await readRaw(directory, "model.safetensors");
    change(config, tensors);
    const files = { "config.json": jsonBytes(config), "model.safetensors": rawSafetensors(tensors) };
    return memoryDirectory("changed", files);
  }

  it("another method", async () => {
    const directory = await changed("bert-nf4", (config) => (config["quantization_config"] = { quant_method: "gptq" }));
    await failure(loadModel(engine, directory), ConfigError);
  });

  it("a wrong block size", async () => {
    const directory = await changed("bert-nf4", (_, tensors) => {
      const key = "bert.encoder.layer.1.output.dense.weight.quant_state.bitsandbytes__nf4";
      const { bytes } = tensors.get(key)!;
      const changedBytes = new TextEncoder().encode(new TextDecoder().decode(bytes).replace("64", "32"));
      tensors.set(key, { dtype: "U8", shape: [changedBytes.length], bytes: changedBytes });
    });
    const error = await failure(loadModel(engine, directory), FileFormatError);
    expect(error.message).toMatch(/layer\.1\.output.* scales of blocks of 32/);
  });

  it.each([Number.NaN, Infinity])("a scale of %f in a layer that is read late", async (value) => {
    const directory = await changed("bert-nf4", (_, tensors) => {
      const key = "bert.encoder.layer.1.output.dense.weight.absmax";
      const { bytes } = tensors.get(key)!;
      new DataView(bytes.buffer, bytes.byteOffset).setFloat32(4, value, true);
    });
    const error = await failure(loadModel(engine, directory, { weights: "nf4" }), FileFormatError);
    expect(error.message).toMatch(/layer\.1\.output\.dense\.weight in changed has .* as its element \d+/);
  });
});
