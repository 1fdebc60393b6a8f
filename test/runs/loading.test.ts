import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { DtypeError, FileFormatError, LimitError, loadModel, memoryDirectory, openDirectory } from "safetape";
import { ConfigError, initialiseModel, WEIGHT_FORMATS } from "safetape";
import type { WeightFormat } from "safetape";
import { encodeWeight } from "../../src/base/packed";
import { Random } from "../../src/base/random";
import { elements } from "../../src/base/shape";
import { readBuffer } from "../../src/gpu/readback";
import { Uploader, WINDOW_ELEMENTS } from "../../src/io/upload";
import type { Tensor } from "../../src/tensor";
import { observed, randomTensors, rawSafetensors, shardedFiles, wholeCheckpoint } from "../support/checkpoints";
import { useEngine } from "../support/engine";

const BERT = {
  model_type: "bert",
  vocab_size: 51,
  hidden_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  intermediate_size: 70,
  max_position_embeddings: 16,
  num_labels: 2,
};

const engine = await useEngine();

async function stored(tensor: Tensor): Promise<Buffer> {
  return Buffer.from(await readBuffer(engine.device, tensor.lease));
}

/** What the GPU holds of a weight that is encoded whole: its bytes, up to a whole word. */
function encoded(data: Float32Array, columns: number, format: WeightFormat): Buffer {
  const whole = encodeWeight(data, columns, format);
  return Buffer.from(whole.buffer, whole.byteOffset, whole.byteLength);
}

describe.each(WEIGHT_FORMATS)("a weight in %s", (format) => {
  it.each([
    [[7, 5], 11],
    [[7, 5], 1],
    [[9, 130], 400],
    [[4, 64], 1000],
    [[6, 2, 3], 7],
    [[21], 4],
  ])("%j has the same bits in windows of %d elements as whole", async (shape, window) => {
    const random = new Random(2);
    const data = Float32Array.from({ length: elements(shape) }, () => random.normal());
    const asked: number[] = [];
    const source = (first: number, end: number): Float32Array => {
      asked.push(first, end);
      return data.slice(first, end);
    };
    const uploader = new Uploader(engine.device, "a test", window);
    const { tensor, smallest } = await uploader.upload({ name: "w", shape, dtype: format }, source);
    const found = await stored(tensor);
    tensor.dispose();
    expect(Buffer.compare(found, encoded(data, shape.at(-1) ?? 1, format)), "bytes that differ").toBe(0);
    expect(smallest).toBe(Math.min(...data.map(Math.abs)));
    expect([asked[0], asked.at(-1)], "from the first element to the last").toEqual([0, data.length]);
    expect(
      asked.slice(1, -1).every((at, i, all) => i % 2 === 0 || at === all[i - 1]),
      "in order, without gap",
    ).toBe(true);
  });
});

describe("a table larger than a window", () => {
  const config = { ...BERT, hidden_size: 64, vocab_size: 140_000 };
  const table = "bert.embeddings.word_embeddings.weight";
  const whole = randomTensors(config);

  it.each(["f32", "nf4"] as const)("is never whole on the host, and has the same bits in %s", async (weights) => {
    let largest = 0;
    const counting = observed(await wholeCheckpoint(config, whole), (file, start = 0, end = Infinity) => {
      if (file.endsWith(".safetensors")) largest = Math.max(largest, end - start);
    });
    const told: number[] = [];
    const onProgress = (done: number, of: number): void => void told.push(done / of);
    using model = await loadModel(engine, counting, { weights, onProgress });
    expect(told, "progress, window by window").toEqual([...told].sort((a, b) => a - b));
    expect(told.length).toBeGreaterThan(whole.length);
    expect(told.at(-1)).toBe(1);
    expect(elements([140_000, 64]), "elements of the table").toBeGreaterThan(2 * WINDOW_ELEMENTS);
    expect(largest, "bytes of the largest read").toBeLessThanOrEqual(4 * WINDOW_ELEMENTS);
    for (const { name, shape, data } of whole) {
      const tensor = model.weights.get(name)!;
      const wanted = encoded(data, shape.at(-1) ?? 1, tensor.dtype as WeightFormat);
      expect(Buffer.compare(await stored(tensor), wanted), name).toBe(0);
    }
    expect(model.weights.get(table)?.dtype).toBe(weights === "f32" ? "f32" : "f16");
  });
});

describe("a directory that changes while it is read", () => {
  /** Runs `change` when the first tensor of the second shard is asked for. */
  async function changing(change: (path: string) => Promise<void>): Promise<Error> {
    const path = await mkdtemp(join(tmpdir(), "safetape-loading-"));
    try {
      for (const [file, bytes] of Object.entries(await shardedFiles(BERT, randomTensors(BERT)))) {
        await writeFile(join(path, file), bytes);
      }
      let heldBytes = 0;
      const directory = observed(await openDirectory(path), async (file, start = 0) => {
        // Bytes 0 and 8 begin the header.
        if (file !== "second.safetensors" || start <= 8 || heldBytes > 0) return;
        heldBytes = engine.ledger.liveBytes;
        expect(heldBytes, "bytes held for the first shard's weights").toBeGreaterThan(10_000);
        await change(join(path, file));
      });
      return await loadModel(engine, directory).then(
        (model) => {
          model.dispose();
          throw new Error("nothing was thrown");
        },
        (error: unknown) => error as Error,
      );
    } finally {
      await rm(path, { recursive: true });
    }
  }

  it("loses a shard half way: FileFormatError, and no memory is held", async () => {
    const error = await changing((file) => rm(file));
    expect(error).toBeInstanceOf(FileFormatError);
    expect(error.message).toMatch(/^no file second\.safetensors in .*\n.*first\.safetensors/);
  });

  it("has a shard cut short half way: FileFormatError, and no memory is held", async () => {
    const error = await changing((file) => writeFile(file, new Uint8Array(100)));
    expect(error).toBeInstanceOf(FileFormatError);
    expect(error.message).toMatch(/second\.safetensors in .* has 100 bytes, but bytes .* were asked for\n.*truncated/);
  });
});

describe("what cannot be loaded", () => {
  it.each(["F8_E4M3", "F8_E5M2"])("a weight stored as %s: DtypeError", async (dtype) => {
    const name = "bert.encoder.layer.1.output.dense.weight";
    const shape = [24, 70];
    const tensors = randomTensors(BERT).filter((tensor) => tensor.name !== name);
    const files = await shardedFiles(BERT, tensors);
    const index = JSON.parse(new TextDecoder().decode(files["model.safetensors.index.json"])) as {
      weight_map: Record<string, string>;
    };
    index.weight_map[name] = "third.safetensors";
    const directory = memoryDirectory("eighths", {
      ...files,
      "model.safetensors.index.json": new TextEncoder().encode(JSON.stringify(index)),
      "third.safetensors": rawSafetensors(new Map([[name, { dtype, shape, bytes: new Uint8Array(24 * 70) }]])),
    });
    const load = loadModel(engine, directory);
    await expect(load).rejects.toThrow(DtypeError);
    await expect(load).rejects.toThrow(`is stored as ${dtype}`);
  });

  it("a format of weights that is none: ConfigError", async () => {
    const directory = await wholeCheckpoint(BERT, randomTensors(BERT));
    const load = loadModel(engine, directory, { weights: "int4" as WeightFormat });
    await expect(load).rejects.toThrow(ConfigError);
    await expect(load).rejects.toThrow(/"int4".*\n.*f32, f16, bf16, int8, nf4/);
  });

  it("a table larger than the adapter's buffers: LimitError", async () => {
    const rows = Math.ceil(engine.device.handle.limits.maxBufferSize / 4 / 64) + 1;
    const made = initialiseModel(engine, { ...BERT, hidden_size: 64, vocab_size: rows });
    await expect(made).rejects.toThrow(LimitError);
  });
});

it("two processes train from the same files", async () => {
  const args = ["scripts/run.mjs", "test/support/shared-files.ts", "test/interop-data/bert/base"];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  const [ours, theirs] = JSON.parse(stdout) as [number[], number[]];
  expect(ours).toHaveLength(4);
  expect(ours.every((loss) => loss > 0)).toBe(true);
  expect(theirs, "the same bits").toEqual(ours);
});
