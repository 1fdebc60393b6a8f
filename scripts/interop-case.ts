import { existsSync, readdirSync } from "node:fs";
import type { Adapter, Tensors } from "../src/adapter/adapter";
import { Random } from "../src/base/random";
import type { Batch } from "../src/data/batch";
import type { Engine } from "../src/engine";
import { loadModel } from "../src/node/index";
import type { LoadedModel } from "../src/io/load-model";
import { readSafetensors } from "../src/io/safetensors";
import type { FloatTensor, HostTensor } from "../src/io/safetensors";
import { openDirectory } from "../src/node/directory";
import { InferenceStore } from "../src/generate/weights";
import { Executor } from "../src/run/executor";
import { plan } from "../src/tape/plan";
import { loadAdapter } from "../src/train/files";
import { batchInputs } from "../src/train/plans/inputs";
import { trace } from "../src/train/plans/trace";

export interface InteropCase {
  readonly family: string;
  readonly kind: string;
}

/** Every adapter beside a base checkpoint: DIR/FAMILY/KIND with DIR/FAMILY/base. */
export function interopCases(directory: string): InteropCase[] {
  return familiesOf(directory).flatMap((family) =>
    folders(`${directory}/${family}`)
      .filter((kind) => existsSync(`${directory}/${family}/${kind}/adapter_config.json`))
      .map((kind) => ({ family, kind })),
  );
}

/** Folders with a base checkpoint. */
export function familiesOf(directory: string): string[] {
  return folders(directory).filter((family) => existsSync(`${directory}/${family}/base/config.json`));
}

const folders = (path: string): string[] =>
  readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
    .sort();

/**
 * Logits of an adapter that Python wrote, on the inputs of its `expected.safetensors`, and their error against those there
 * (relative to the largest), where it has any.
 */
export async function runInterop(
  engine: Engine,
  directory: string,
  family: string,
  kind: string,
): Promise<{ logits: FloatTensor; error: number | undefined }> {
  const folder = await openDirectory(`${directory}/${family}/${kind}`);
  using loaded = await loadModel(engine, `${directory}/${family}/base`);
  const { adapter, tensors } = await loadAdapter(folder, loaded);
  const expected = await readSafetensors(folder, "expected.safetensors");
  const logits = await adapterLogits(loaded, adapter, tensors, batchOf(expected, loaded.model.maxLength));
  const wanted = expected.get("logits")?.data as Float32Array | undefined;
  return { logits, error: wanted && relativeError(logits.data, wanted) };
}

/** Logits of a model with an adapter, in eval mode; tensors that are not given are as before training. */
export async function adapterLogits(
  loaded: LoadedModel,
  adapter: Adapter,
  tensors: Tensors,
  batch: Batch,
): Promise<FloatTensor> {
  const { model, fragileNorms, engine } = loaded;
  const { size, length } = batch;
  const traced = trace({ model, adapter, batch: { size, length }, isTraining: false, fragileNorms });
  const planned = plan(traced.tape, { outputs: { logits: traced.logits }, limits: engine.device.limits });
  const random = new Random(0, 1);
  const fresh = adapter.tensors(model).map((tensor) => {
    return [tensor.name, { shape: tensor.shape, data: tensor.initial(random) }] as const;
  });
  using store = await InferenceStore.create(loaded, { adapter, tensors: new Map([...fresh, ...tensors]) });
  using executor = new Executor(engine.device);
  await executor.hold([planned]);
  const inputs = batchInputs(model, batch, { virtualTokens: adapter.virtualTokens });
  const found = await executor.run(planned, store, inputs);
  return { shape: traced.logits.shape, data: found.get("logits")! };
}

/** Inputs that Python was given: texts, or images. */
export function batchOf(expected: ReadonlyMap<string, HostTensor>, tokens: number): Batch {
  const given = expected.get("input_ids") ?? expected.get("pixel_values");
  const pixels = expected.get("pixel_values")?.data as Float32Array | undefined;
  const [size = 0, width = 0] = given?.shape ?? [];
  const length = pixels ? tokens : width;
  return {
    size,
    length,
    rows: size,
    labels: new Int32Array(size),
    tokenTypeIds: new Int32Array(size * length),
    inputIds: pixels ? new Int32Array(size * length) : (given?.data as Int32Array),
    attentionMask:
      (expected.get("attention_mask")?.data as Int32Array | undefined) ?? new Int32Array(size * length).fill(1),
    ...(pixels && { pixels }),
  };
}

/** Largest difference relative to the largest expected element; NaN where one is not a number. */
function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Infinity;
  let [worst, largest] = [0, 1e-30];
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(actual[i]! - expected[i]!);
    worst = worst >= difference ? worst : difference;
    largest = Math.max(largest, Math.abs(expected[i]!));
  }
  return worst / largest;
}
