import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { memoryTuningCache } from "safetape";
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

/** Just large enough to be worth a choice, and for one block of workgroup memory alone. */
const [ROWS, COLUMNS, INNER] = [40, 24, 600];

/** The product's bits, how it ran, and what that took of time for trying and of memory. */
async function multiply(options: DeviceOptions): Promise<{
  readonly y: readonly number[];
  readonly choices: readonly KernelChoice[];
  readonly secondsLeft: number | undefined;
  readonly peakBytes: number;
  readonly plannedBytes: number;
}> {
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

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "safetape-tuning-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it("tunes once: the portable kernel's bits, no byte above the plan, and nothing timed by the next engine", async () => {
  const portable = await multiply({ variants: "portable" });
  const cache = memoryTuningCache();
  const first = await multiply({ variants: "tuned", tuning: { cache, seconds: 60 } });
  const [choice] = first.choices;
  expect(first.choices).toHaveLength(1);
  expect(choice).toMatchObject({ shape: "product.plain m~32 n~32 k~512 f32 b^T", how: "timed" });
  const names = Object.keys(choice?.seconds ?? {});
  expect(names).toEqual(expect.arrayContaining(["portable", "shared memory, 32 x 32", "tiles of 4 x 4"]));
  expect(Object.values(choice?.seconds ?? {}).every((seconds) => seconds > 0 && seconds < 60)).toBe(true);
  expect(names).toContain(choice?.chosen);
  expect(first.secondsLeft).toBeLessThan(60);
  expect(first.y, "bits").toEqual(portable.y);
  expect(first.peakBytes, "peak against plan").toBe(first.plannedBytes);

  const second = await multiply({ variants: "tuned", tuning: { cache, seconds: 60 } });
  expect(second.choices).toEqual([{ shape: choice?.shape, chosen: choice?.chosen, how: "cached" }]);
  expect(second.secondsLeft, "time spent on trying").toBe(60);
  expect(second.y, "bits").toEqual(portable.y);
});

it("a software adapter runs untuned unless told otherwise", async () => {
  expect((await multiply({})).choices).toEqual([]);
});

it("safetape doctor --tune tells what every variant takes, and keeps the choice", async () => {
  const before = process.env["XDG_CACHE_HOME"];
  process.env["XDG_CACHE_HOME"] = folder;
  const { code, stdout, stderr } = await runCli(["doctor", "--tune", "--seconds", "0.5", "--json"]);
  if (before === undefined) delete process.env["XDG_CACHE_HOME"];
  else process.env["XDG_CACHE_HOME"] = before;
  expect(code, stderr).toBe(0);
  expect(stderr).toMatch(/^1\/\d+ {2}256 x 256 x 256, forward/);
  const told = JSON.parse(stdout) as {
    readonly classes: readonly { shape: string; chosen: string; variants: { name: string; gflops: number }[] }[];
    readonly left: number;
  };
  expect(told.left, "classes for which there was no time").toBeGreaterThan(0);
  const [first] = told.classes;
  expect(first?.shape).toBe("product.plain m~256 n~256 k~256 f32");
  expect(first?.variants.find(({ name }) => name === first.chosen)?.gflops).toBeGreaterThan(0);
  const file = JSON.parse(readFileSync(join(folder, "safetape", "tuning.json"), "utf8")) as {
    readonly records: Record<string, Record<string, { chosen: string }>>;
  };
  const [key = "", record] = Object.entries(file.records)[0] ?? [];
  expect(key.toLowerCase()).toContain(process.env["SAFETAPE_ADAPTER"]);
  expect(record?.[first?.shape ?? ""]?.chosen).toBe(first?.chosen);
});
