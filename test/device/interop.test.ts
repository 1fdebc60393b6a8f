import { existsSync, readdirSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Engine, loadAdapter, loadModel, openDirectory } from "safetape";
import type { Batch } from "safetape";
import { readSafetensors } from "../../src/io/safetensors";
import type { HostTensor } from "../../src/io/safetensors";
import { Executor } from "../../src/run/executor";
import { plan } from "../../src/tape/plan";
import { batchInputs } from "../../src/train/inputs";
import { TrainState } from "../../src/train/state";
import { trace } from "../../src/train/trace";
import { testDevice } from "../support/device";
import { relativeError } from "../support/op-runs";

const TOLERANCE = 2e-5;
const DATA = "test/interop-data";

/** Every adapter beside a base checkpoint, as FAMILY/KIND. */
const ADAPTERS = readdirSync(DATA).flatMap((family) =>
  readdirSync(`${DATA}/${family}`)
    .filter((kind) => kind !== "base" && existsSync(`${DATA}/${family}/${kind}/adapter_config.json`))
    .map((kind) => `${family}/${kind}`),
);

/** Inputs that Python was given: texts, or images. */
function batchOf(expected: ReadonlyMap<string, HostTensor>, tokens: number): Batch {
  const given = expected.get("input_ids") ?? expected.get("pixel_values");
  const pixels = expected.get("pixel_values")?.data as Float32Array | undefined;
  const [size = 0, width = 0] = given?.shape ?? [];
  const length = pixels ? tokens : width;
  return {
    ...{ size, length, rows: size, labels: new Int32Array(size), tokenTypeIds: new Int32Array(size * length) },
    inputIds: pixels ? new Int32Array(size * length) : (given?.data as Int32Array),
    attentionMask: (expected.get("attention_mask")?.data as Int32Array | undefined) ?? new Int32Array(size * length).fill(1),
    ...(pixels && { pixels }),
  };
}

let engine: Engine;
beforeAll(async () => {
  engine = new Engine(await testDevice());
});
afterAll(() => {
  expect(engine.ledger.liveBytes, "bytes left in the ledger").toBe(0);
  engine.dispose();
});

describe("adapters that Python PEFT wrote", () => {
  it.each(ADAPTERS)("%s gives Python's logits", async (path) => {
    const folder = await openDirectory(`${DATA}/${path}`);
    using loaded = await loadModel(engine, `${DATA}/${path.split("/")[0] ?? ""}/base`);
    const { adapter, tensors } = await loadAdapter(folder, loaded);
    const expected = await readSafetensors(folder, "expected.safetensors");
    const { model, fragileNorms } = loaded;
    const batch = batchOf(expected, model.maxLength);
    const { size, length } = batch;
    const traced = trace({ model, adapter, batch: { size, length }, isTraining: false, fragileNorms });
    const planned = plan(traced.tape, { outputs: { logits: traced.logits }, limits: engine.device.limits });
    const state = await TrainState.create(loaded, adapter, 0);
    using executor = new Executor(engine.device);
    try {
      state.restore(tensors);
      await executor.hold([planned]);
      const found = await executor.run(
        planned,
        state,
        batchInputs(model, batch, { virtualTokens: adapter.virtualTokens }),
      );
      const error = relativeError(found.get("logits") ?? [], expected.get("logits")?.data ?? []);
      expect(error, "relative error of the logits").toBeLessThan(TOLERANCE);
    } finally {
      state.dispose();
    }
  });
});
