import { adapterOfFile } from "../../src/adapter/file";
import { unquantised } from "../../src/io/bitsandbytes";
import { openCheckpoint } from "../../src/io/checkpoint";
import { contentBytes } from "../../src/io/directory";
import { readAdapterDirectory } from "../../src/io/peft";
import { parseLoraConfig, rankOf, scaleOf } from "../../src/io/peft-lora";
import { isTarget } from "../../src/io/peft-match";
import { readSafetensors } from "../../src/io/safetensors";
import { safetensorsContent } from "../../src/io/safetensors-write";
import { createModel } from "../../src/model/families";
import { JSON_WORDS, must, testFile } from "./reader";
import type { Reader } from "./reader";

const WORDS = [...JSON_WORDS, '"F32"', '"BF16"', '"shape"', '"data_offsets"', "__metadata__", "[0,0]"];
const encoder = new TextEncoder();
// A configuration is a JSON object; `createModel` checks its keys.
const CONFIG = JSON.parse(new TextDecoder().decode(testFile("interop-data/bert/base/config.json"))) as Record<
  string,
  unknown
>;
const model = createModel(CONFIG);

const shard = (names: readonly string[]): Promise<Uint8Array> =>
  contentBytes(safetensorsContent(names.map((name) => ({ name, shape: [2], data: Float32Array.of(1, 2) }))));
const [ONE, TWO, WEIGHTS] = await Promise.all([shard(["a", "b"]), shard(["c"]), shard(["w"])]);

const safetensors: Reader = {
  name: "safetensors",
  seeds: "safetensors",
  file: "x.safetensors",
  form: "safetensors",
  words: WORDS,
  perByte: 64,
  async read(directory) {
    const tensors = await readSafetensors(directory, "x.safetensors");
    let elements = 0;
    for (const [name, { shape, data }] of tensors) {
      must(data.length === shape.reduce((product, size) => product * size, 1), `elements of ${name}`);
      elements += data.length;
    }
    must(elements <= ((await directory.size("x.safetensors")) ?? 0), "more elements than bytes");
  },
};

const adapterWeights: Reader = {
  name: "adapter_model.safetensors",
  seeds: "adapter-weights",
  file: "adapter_model.safetensors",
  perByte: 64,
  form: "safetensors",
  words: WORDS,
  otherFiles: { "adapter_config.json": testFile("interop-data/bert/rslora/adapter_config.json") },
  async read(directory) {
    const file = await readAdapterDirectory(directory);
    const { tensors } = await adapterOfFile(file, model, "adapter_config.json");
    for (const { shape, data } of tensors.values()) {
      must(data.length === shape.reduce((product, size) => product * size, 1), "elements of a tensor");
    }
  },
};

const index: Reader = {
  name: "model.safetensors.index.json",
  seeds: "index",
  file: "model.safetensors.index.json",
  form: "json",
  words: [...JSON_WORDS, "one.safetensors", "weight_map"],
  perByte: 64,
  otherFiles: { "config.json": encoder.encode("{}"), "one.safetensors": ONE, "two.safetensors": TWO },
  async read(directory) {
    const checkpoint = await openCheckpoint(directory);
    for (const name of checkpoint.names()) {
      must(["a", "b", "c"].includes(name), `a tensor ${name} that no shard has`);
      must((await checkpoint.read(name)).join() === "1,2", `the values of ${name}`);
    }
  },
};

const config: Reader = {
  name: "config.json",
  seeds: "config",
  file: "config.json",
  form: "json",
  words: JSON_WORDS,
  perByte: 512,
  otherFiles: { "model.safetensors": WEIGHTS },
  async read(directory) {
    const checkpoint = await openCheckpoint(directory);
    must(Object.getPrototypeOf(checkpoint.config) === Object.prototype, "a prototype from the file");
    const created = createModel(unquantised(checkpoint.config));
    must(Number.isSafeInteger(created.layers) && created.layers > 0, "layers");
    must(
      created.parameters.every(({ shape }) => shape.every((size) => size > 0)),
      "a parameter's shape",
    );
  },
};

const MODULES = model.projections.map(({ name }) => name);

const adapterConfig: Reader = {
  name: "adapter_config.json",
  seeds: "adapter-config",
  file: "adapter_config.json",
  form: "json",
  perByte: 512,
  words: [...JSON_WORDS, "(", ")*", ".*", "{1,999}", "|", "LORA"],
  otherFiles: { "adapter_model.safetensors": testFile("interop-data/bert/rslora/adapter_model.safetensors") },
  async read(directory) {
    const file = await readAdapterDirectory(directory);
    if (file.config.peft_type === "LORA") {
      const lora = parseLoraConfig(file.config, "adapter_config.json");
      for (const module of MODULES) {
        isTarget(lora, module);
        must(rankOf(lora, module) > 0, "a rank");
        must(!Number.isNaN(scaleOf(lora, module)), "a scale");
      }
    }
    await adapterOfFile(file, model, "adapter_config.json");
  },
};

export const WEIGHT_READERS: readonly Reader[] = [safetensors, adapterWeights, index, config, adapterConfig];
