import { existsSync, readdirSync } from "node:fs";
import type { Adapter, Tensors } from "../src/adapter/adapter";
import { Random } from "../src/base/random";
import type { Batch } from "../src/data/batch";
import type { Engine } from "../src/engine";
import { loadModel } from "../src/node/index";
import type { LoadedModel } from "../src/io/load-model";
import { readSafetensors } from "../src/io/safetensors";
import { shapeOf } from "../src/model/model";
import type { FloatTensor, HostTensor } from "../src/io/safetensors";
import { openDirectory } from "../src/node/directory";
import { InferenceStore } from "../src/generate/weights";
import { Executor } from "../src/run/executor";
import { plan } from "../src/tape/plan";
import { loadAdapter } from "../src/train/files";
import { batchInputs } from "../src/train/plans/inputs";
import { trace } from "../src/train/plans/trace";

/** An adapter KIND of a base model FAMILY, in the folder DIR/FAMILY/KIND. */
export interface InteropCase {
  readonly family: string;
  readonly kind: string;
}

/** All adapters DIR/FAMILY/KIND for which there is a base checkpoint DIR/FAMILY/base. */
export function interopCases(directory: string): InteropCase[] {
  return familiesOf(directory).flatMap((family) =>
    folders(`${directory}/${family}`)
      .filter((kind) => existsSync(`${directory}/${family}/${kind}/adapter_config.json`))
      .map((kind) => ({ family, kind })),
  );
}

/** Folders of a directory that have a base checkpoint. */
export function familiesOf(directory: string): string[] {
  return folders(directory).filter((family) => existsSync(`${directory}/${family}/base/config.json`));
}

const folders = (path: string): string[] =>
  readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
    .sort();

/**
 * Computes the logits of an adapter that Python wrote, on the inputs in its `expected.safetensors`. Their error, relative to
 * the largest logit, is undefined if that file has no logits.
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
  const batch = batchOf(expected, loaded.model.maxLength);
  const logits = await adapterLogits(loaded, adapter, tensors, batch);
  const expectedLogits = expected.get("logits");
  if (expectedLogits === undefined) return { logits, error: undefined };
  // Logits of padding mean nothing.
  if (logits.shape.length === 3 && !loaded.model.encoderDecoder) clearPadding([logits, expectedLogits], batch);
  return { logits, error: relativeError(logits.data, expectedLogits.data) };
}

/** Sets logits [size, tokens, classes] of padding to 0. Of the tokens, those before the batch's are virtual. */
function clearPadding(
  logits: readonly Pick<HostTensor, "shape" | "data">[],
  { attentionMask, length, size }: Batch,
): void {
  for (const { shape, data } of logits) {
    const [, tokens = 0, width = 0] = shape;
    for (let i = 0; i < size * length; i++) {
      const token = Math.floor(i / length) * tokens + (tokens - length) + (i % length);
      if (attentionMask[i] === 0) data.fill(0, token * width, (token + 1) * width);
    }
  }
}

/** Computes the logits of a model with an adapter, without dropout. Tensors missing from `tensors` have initial values. */
export async function adapterLogits(
  loaded: LoadedModel,
  adapter: Adapter,
  tensors: Tensors,
  batch: Batch,
): Promise<FloatTensor> {
  const { model, fragileNorms, engine } = loaded;
  const traced = trace({ model, adapter, batch: shapeOf(batch), isTraining: false, fragileNorms });
  const logitsPlan = plan(traced.tape, { outputs: { logits: traced.logits }, limits: engine.device.limits });
  const random = new Random(0, 1);
  const initial = adapter.tensors(model).map((tensor) => {
    return [tensor.name, { shape: tensor.shape, data: tensor.initial(random) }] as const;
  });
  using store = await InferenceStore.create(loaded, { adapter, tensors: new Map([...initial, ...tensors]) });
  using executor = new Executor(engine.device);
  await executor.hold([logitsPlan]);
  const inputs = batchInputs(model, batch, { adapter });
  const results = await executor.run(logitsPlan, store, inputs);
  return { shape: traced.logits.shape, data: results.get("logits")! };
}

/** The inputs of an `expected.safetensors` as a batch, of texts or of images. `tokens` is the sequence length of images. */
export function batchOf(expected: ReadonlyMap<string, HostTensor>, tokens: number): Batch {
  // The files store ids and masks as integers.
  const integers = (name: string) => expected.get(name)?.data as Int32Array | undefined;
  const pixels = expected.get("pixel_values")?.data as Float32Array | undefined; // f32 in the files
  const [size = 0, width = 0] = (expected.get("input_ids") ?? expected.get("pixel_values"))?.shape ?? [];
  const length = pixels ? tokens : width;
  const decoderIds = expected.get("decoder_input_ids");
  return {
    size,
    length,
    rows: size,
    ...(decoderIds ? targetOf(integers("decoder_input_ids")!, size) : { labels: new Int32Array(size) }),
    tokenTypeIds: new Int32Array(size * length),
    inputIds: integers("input_ids") ?? new Int32Array(size * length),
    attentionMask: integers("attention_mask") ?? new Int32Array(size * length).fill(1),
    ...(pixels && { pixels }),
  };
}

/** Labels that a decoder reads as these ids, after the id with which it begins. */
function targetOf(decoderIds: Int32Array, size: number): Pick<Batch, "labels" | "targetLength"> {
  const targetLength = decoderIds.length / size;
  // The last label of a row is not read.
  const labels = decoderIds.map((_, i) => ((i + 1) % targetLength === 0 ? 0 : decoderIds[i + 1]!));
  return { labels, targetLength };
}

/** Largest difference over the largest expected magnitude; NaN if an element is NaN, Infinity if the lengths differ. */
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
