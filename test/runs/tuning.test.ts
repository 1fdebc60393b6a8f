import { expect, it, vi } from "vitest";
import { memoryTuningCache } from "safetape/engine";
import { Random } from "../../src/base/random";
import { openDevice } from "../../src/gpu/device";
import type { DeviceOptions } from "../../src/gpu/device";
import { sumBytes } from "../../src/gpu/ledger";
import type { KernelChoice } from "../../src/gpu/tuning/tuner";
import { nodeGpu } from "../../src/node/gpu";
import { linear } from "../../src/ops/linear";
import { Executor } from "../../src/run/executor";
import { executorBytes } from "../../src/run/footprint";
import { plan } from "../../src/tape/plan";
import { Recorder } from "../../src/tape/tape";
import { runCli } from "../support/cli";
import { useFolder } from "../support/folder";
import { parseJson, readJson } from "../support/json";

/** A product just large enough to be tuned, whose workgroup memory has one block. */
const [ROWS, COLUMNS, INNER] = [40, 24, 600];

interface Multiplied {
  readonly y: readonly number[];
  readonly choices: readonly KernelChoice[];
  /** What is left of the time for tuning. */
  readonly secondsLeft: number | undefined;
  readonly peakBytes: number;
  readonly plannedBytes: number;
}

/** Multiplies on a new device with these options. */
async function multiply(options: DeviceOptions): Promise<Multiplied> {
  const device = await openDevice(await nodeGpu(), options);
  const random = new Random(5);
  const numbers = (count: number) => Float32Array.from({ length: count }, () => random.normal());
  const recorder = new Recorder();
  const [x, w] = [recorder.input("x", [ROWS, INNER]), recorder.input("w", [COLUMNS, INNER])];
  const y = recorder.apply(linear, { x, w }, { layout: "out_in" });
  const planned = plan(recorder, { outputs: { y }, limits: device.limits });
  const executor = new Executor(device);
  await executor.hold([planned]);
  const inputs = { x: numbers(ROWS * INNER), w: numbers(COLUMNS * INNER) };
  const outputs = await executor.run(planned, { lease: () => expect.unreachable("no tensors") }, inputs);
  executor.dispose();
  const { ledger } = device.pool;
  expect(ledger.liveBytes, "bytes left").toBe(0);
  device.close();
  return {
    y: [...(outputs.get("y") ?? [])],
    choices: device.tuner?.choices ?? [],
    secondsLeft: device.tuner?.secondsLeft,
    peakBytes: ledger.peakBytes,
    plannedBytes: sumBytes(executorBytes([planned])),
  };
}

const path = useFolder();

it("tuning happens once, keeps the bits of the portable kernel and the bytes of the plan, and is cached for the next engine", async () => {
  const portable = await multiply({ variants: "portable" });
  const cache = memoryTuningCache();
  const first = await multiply({ variants: "tuned", tuning: { cache, seconds: 60 } });
  const [choice] = first.choices;
  expect(first.choices).toHaveLength(1);
  expect(choice).toMatchObject({ shape: "product.plain m~32 n~32 k~512 f32 b^T", how: "timed" });
  const names = Object.keys(choice?.seconds ?? {});
  expect(names).toEqual(expect.arrayContaining(["portable", "tiles of 4 x 4"]));
  expect(Object.values(choice?.seconds ?? {}).every((seconds) => seconds > 0 && seconds < 60)).toBe(true);
  expect(names).toContain(choice?.chosen);
  expect(first.secondsLeft).toBeLessThan(60);
  expect(first.y, "bits").toEqual(portable.y);
  expect(first.peakBytes, "peak against plan").toBe(first.plannedBytes);

  const second = await multiply({ variants: "tuned", tuning: { cache, seconds: 60 } });
  expect(second.choices).toEqual([{ shape: choice?.shape, chosen: choice?.chosen, how: "cached" }]);
  expect(second.secondsLeft, "time that is left, all of it").toBe(60);
  expect(second.y, "bits").toEqual(portable.y);
});

it("a software adapter is not tuned by default", async () => {
  expect((await multiply({})).choices).toEqual([]);
});

it("safetape doctor --tune prints the speed of every variant and stores the choice", async () => {
  vi.stubEnv("XDG_CACHE_HOME", path());
  const { code, stdout, stderr } = await runCli(["doctor", "--tune", "--seconds", "0.5", "--json"]);
  vi.unstubAllEnvs();
  expect(code, stderr).toBe(0);
  expect(stderr).toMatch(/^1\/\d+ {2}256 x 256 x 256, forward/);
  const { classes, left } = parseJson<{
    readonly classes: readonly { shape: string; chosen: string; variants: { name: string; gflops: number }[] }[];
    readonly left: number;
  }>(stdout);
  expect(left, "classes for which there was no time").toBeGreaterThan(0);
  const first = classes[0]!;
  expect(first.shape).toBe("product.plain m~256 n~256 k~256 f32");
  expect(first.variants.find(({ name }) => name === first.chosen)?.gflops).toBeGreaterThan(0);
  const file = readJson<{
    readonly records: Record<string, Record<string, { chosen: string }>>;
  }>(path("safetape", "tuning.json"));
  const [key = "", record] = Object.entries(file.records)[0] ?? [];
  expect(key.toLowerCase()).toContain(process.env["SAFETAPE_ADAPTER"]);
  expect(record?.[first.shape]?.chosen).toBe(first.chosen);
});
