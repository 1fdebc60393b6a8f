import { execFile } from "node:child_process";
import { rm, writeFile } from "node:fs/promises";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { loadModel, openDirectory, initialiseModel, saveModel } from "safetape";
import { DtypeError, FileFormatError, LimitError, ConfigError, WEIGHT_FORMATS } from "safetape/engine";
import { memoryDirectory } from "safetape/data";
import type { WeightFormat } from "safetape";
import { encodeWeight } from "../../src/base/packed";
import { Random } from "../../src/base/random";
import { elements } from "../../src/base/shape";
import { readBuffer } from "../../src/gpu/readback";
import { Uploader, WINDOW_ELEMENTS } from "../../src/io/upload";
import type { Tensor } from "../../src/tensor";
import { observed, randomTensors, rawSafetensors, shardedFiles, wholeCheckpoint } from "../support/checkpoints";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { useFolder } from "../support/folder";
import { parseJson } from "../support/json";
import { layerCount, ODD_SIZES, tiny } from "../support/tiny";

const SIZES = { ...ODD_SIZES, ...layerCount(2), max_position_embeddings: 16 };
const BERT = tiny.bert(SIZES);

const engine = await useEngine();

async function bytesOf(tensor: Tensor): Promise<Buffer> {
  return Buffer.from(await readBuffer(engine.device, tensor.lease));
}

/** The bytes that the GPU holds of a weight that was encoded in one piece, up to a whole word. */
function encoded(data: Float32Array, columns: number, format: WeightFormat): Buffer {
  const words = encodeWeight(data, columns, format);
  return Buffer.from(words.buffer, words.byteOffset, words.byteLength);
}

describe.each(WEIGHT_FORMATS)("a weight in %s", (format) => {
  it.each([
    [[7, 5], 11],
    [[7, 5], 1],
    [[9, 130], 400],
    [[4, 64], 1000],
    [[6, 2, 3], 7],
    [[21], 4],
  ])("of shape %j has the same bits in windows of %d elements as in one piece", async (shape, window) => {
    const random = new Random(2);
    const data = Float32Array.from({ length: elements(shape) }, () => random.normal());
    const ranges: number[] = [];
    const source = (first: number, end: number): Float32Array => {
      ranges.push(first, end);
      return data.slice(first, end);
    };
    const uploader = new Uploader(engine.device, "a test", window);
    const { tensor, smallest } = await uploader.upload({ name: "w", shape, dtype: format }, source);
    const bytes = await bytesOf(tensor);
    tensor.dispose();
    expect(Buffer.compare(bytes, encoded(data, shape.at(-1) ?? 1, format)), "bytes that differ").toBe(0);
    expect(smallest).toBe(Math.min(...data.map(Math.abs)));
    expect([ranges[0], ranges.at(-1)], "from the first element to the last").toEqual([0, data.length]);
    const isContiguous = ranges.slice(1, -1).every((start, i, ends) => i % 2 === 0 || start === ends[i - 1]);
    expect(isContiguous, "in order, without gap").toBe(true);
  });
});

describe("a table larger than a window", () => {
  const config = tiny.bert({ ...SIZES, hidden_size: 64, vocab_size: 140_000 });
  const table = "bert.embeddings.word_embeddings.weight";
  const tensors = randomTensors(config);

  it.each(["f32", "nf4"] as const)("is read window by window, and has the same bits in %s", async (weights) => {
    let largestRead = 0;
    const counting = observed(await wholeCheckpoint(config, tensors), (file, start = 0, end = Infinity) => {
      if (file.endsWith(".safetensors")) largestRead = Math.max(largestRead, end - start);
    });
    const progress: number[] = [];
    const onProgress = (done: number, total: number): void => void progress.push(done / total);
    using model = await loadModel(engine, counting, { weights, onProgress });
    expect(progress, "progress, window by window").toEqual(progress.toSorted((a, b) => a - b));
    expect(progress.length).toBeGreaterThan(tensors.length);
    expect(progress.at(-1)).toBe(1);
    expect(elements([140_000, 64]), "elements of the table").toBeGreaterThan(2 * WINDOW_ELEMENTS);
    expect(largestRead, "bytes of the largest read").toBeLessThanOrEqual(4 * WINDOW_ELEMENTS);
    for (const { name, shape, data } of tensors) {
      const tensor = model.weights.get(name)!;
      // Weights have no other types.
      const expected = encoded(data, shape.at(-1) ?? 1, tensor.dtype as WeightFormat);
      expect(Buffer.compare(await bytesOf(tensor), expected), name).toBe(0);
    }
    expect(model.weights.get(table)?.dtype).toBe(weights === "f32" ? "f32" : "f16");
  });
});

describe("a directory that changes while it is read", () => {
  const path = useFolder();

  /** Loads a model, and runs `change` when the first tensor of the second shard is read. */
  async function loadDuring(change: (shard: string) => Promise<void>): Promise<void> {
    for (const [file, bytes] of Object.entries(await shardedFiles(BERT, randomTensors(BERT)))) {
      await writeFile(path(file), bytes);
    }
    let liveBytes = 0;
    const directory = observed(await openDirectory(path()), async (file, start = 0) => {
      // The reads at bytes 0 and 8 are those of the header.
      if (file !== "second.safetensors" || start <= 8 || liveBytes > 0) return;
      liveBytes = engine.ledger.liveBytes;
      expect(liveBytes, "bytes of the weights in the first shard").toBeGreaterThan(10_000);
      await change(path(file));
    });
    (await loadModel(engine, directory)).dispose();
  }

  it("gives a FileFormatError and holds no memory when a shard disappears", async () => {
    const error = await failure(
      loadDuring((shard) => rm(shard)),
      FileFormatError,
    );
    expect(error.message).toMatch(/^There is no file second\.safetensors in .*\n.*first\.safetensors/);
  });

  it("gives a FileFormatError and holds no memory when a shard is cut short", async () => {
    const error = await failure(
      loadDuring((shard) => writeFile(shard, new Uint8Array(100))),
      FileFormatError,
    );
    expect(error.message).toMatch(/second\.safetensors in .* has 100 bytes; bytes .* were requested\.\n.*truncated/);
  });
});

describe("loading fails with", () => {
  it.each(["F8_E4M3", "F8_E5M2"])("a DtypeError for a weight stored as %s", async (dtype) => {
    const name = "bert.encoder.layer.1.output.dense.weight";
    const shape = [24, 70];
    const tensors = randomTensors(BERT).filter((tensor) => tensor.name !== name);
    const files = await shardedFiles(BERT, tensors);
    const indexText = new TextDecoder().decode(files["model.safetensors.index.json"]);
    const index = parseJson<{ weight_map: Record<string, string> }>(indexText);
    index.weight_map[name] = "third.safetensors";
    const directory = memoryDirectory("eighths", {
      ...files,
      "model.safetensors.index.json": new TextEncoder().encode(JSON.stringify(index)),
      "third.safetensors": rawSafetensors(new Map([[name, { dtype, shape, bytes: new Uint8Array(24 * 70) }]])),
    });
    const error = await failure(loadModel(engine, directory), DtypeError);
    expect(error.message).toContain(`is stored as ${dtype}`);
  });

  it("a ConfigError for an unknown format of weights", async () => {
    const directory = await wholeCheckpoint(BERT, randomTensors(BERT));
    // @ts-expect-error -- what plain JavaScript may pass
    const error = await failure(loadModel(engine, directory, { weights: "int4" }), ConfigError);
    expect(error.message).toMatch(/"int4".*\n.*f32, f16, bf16, int8, nf4/);
  });

  it("a FileFormatError that says which family the weights are of", async () => {
    const wrapped = randomTensors(tiny.gpt2()).map((tensor) => ({ ...tensor, name: `module.${tensor.name}` }));
    const error = await failure(loadModel(engine, await wholeCheckpoint(BERT, wrapped)), FileFormatError);
    expect(error.message).toMatch(/^The tensors .* look like those of gpt2, but its config\.json says bert\.\n[^\n]+$/);
    expect(engine.ledger.liveBytes).toBe(0);
  });

  it("a LimitError for a table larger than the buffers of the adapter", async () => {
    const rows = Math.ceil(engine.device.handle.limits.maxBufferSize / 4 / 64) + 1;
    await failure(initialiseModel(engine, tiny.bert({ hidden_size: 64, vocab_size: rows })), LimitError);
  });
});

it("a masked language model of ModernBERT without a norm of its head has ones there, and says so", async () => {
  const config = tiny.modernbert({ norm_bias: true, classifier_bias: true, architectures: ["ModernBertForMaskedLM"] });
  const isLeft = ({ name }: { name: string }): boolean => !/^classifier\.|^head\.norm|^head\.dense\.bias/.test(name);
  const tensors = randomTensors(config).filter(isLeft);
  using model = await loadModel(engine, await wholeCheckpoint(config, tensors));
  expect([...model.initialised].sort()).toEqual([
    "classifier.bias",
    "classifier.weight",
    "head.dense.bias",
    "head.norm.bias",
    "head.norm.weight",
  ]);
  expect(new Set(await model.weights.get("head.norm.weight")!.read())).toEqual(new Set([1]));
  expect(new Set(await model.weights.get("head.norm.bias")!.read())).toEqual(new Set([0]));
});

it("a model is saved in 16 bits on request, unless they cannot hold it", async () => {
  using model = await initialiseModel(engine, BERT, { seed: 4 });
  const folder = memoryDirectory("halved");
  await saveModel(folder, model, { dtype: "f16" });
  const config = parseJson<{ dtype: string }>(new TextDecoder().decode(await folder.read("config.json")));
  expect(config.dtype).toBe("float16");
  const count = model.model.parameters.reduce((sum, { shape }) => sum + elements(shape), 0);
  const size = await folder.size("model.safetensors");
  expect(size).toBeGreaterThan(2 * count);
  expect(size).toBeLessThan(2.5 * count);
  using again = await loadModel(engine, folder);
  for (const [name, weight] of model.weights) {
    const [values, halves] = [await weight.read(), await again.weights.get(name)!.read()];
    // f16 has eleven bits, and below 2^-14 steps of 2^-24.
    const isRounded = values.every(
      (value, i) => Math.abs(value - halves[i]!) <= Math.max(Math.abs(value) * 2 ** -11, 2 ** -25),
    );
    expect(isRounded, name).toBe(true);
  }
  using large = await initialiseModel(engine, { ...BERT, initializer_range: 1e5 });
  const other = memoryDirectory("too large");
  const error = await failure(saveModel(other, large, { dtype: "f16" }), DtypeError);
  expect(error.message).toMatch(/_embeddings\.weight has values that 16 bits cannot hold\./);
  expect(await other.list()).toEqual([]);
});

it("GPT-2's projections that end a sub-layer begin smaller, as in transformers", async () => {
  const config = tiny.gpt2({ n_embd: 64, n_inner: 256, n_layer: 8, n_head: 4, initializer_range: 0.1 });
  using model = await initialiseModel(engine, config);
  const deviation = async (name: string): Promise<number> => {
    const values = await model.weights.get(`transformer.h.3.${name}.weight`)!.read();
    return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
  };
  for (const name of ["attn.c_attn", "mlp.c_fc"])
    expect(Math.abs((await deviation(name)) / 0.1 - 1)).toBeLessThan(0.04);
  for (const name of ["attn.c_proj", "mlp.c_proj"]) {
    expect(Math.abs((await deviation(name)) / (0.1 / 4) - 1)).toBeLessThan(0.04);
  }
});

it("two processes that train from the same files get the same bits", async () => {
  const args = ["scripts/run.mjs", "test/support/shared-files.ts", "test/interop-data/bert/base"];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  const [first, second] = parseJson<[number[], number[]]>(stdout);
  expect(first).toHaveLength(4);
  expect(first.every((loss) => loss > 0)).toBe(true);
  expect(second).toEqual(first);
});
