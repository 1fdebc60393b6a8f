import { createEngine } from "../node/index";
import type { Engine } from "../engine";
import { add } from "../ops/add";
import { linear } from "../ops/linear";
import { Executor } from "../run/executor";
import { plan } from "../tape/plan";
import { Recorder } from "../tape/tape";
import type { Value } from "../tape/tape";
import type { Given } from "./options";
import { Screen } from "./view/screen";
import { stagesOn } from "./view/stage";

const LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupsPerDimension",
] as const;

/** `safetape doctor`: which adapter there is, and how fast it multiplies and copies. */
export async function doctorCommand(given: Given, print: (line: string) => void): Promise<void> {
  const [engine, screen] = [await createEngine(), new Screen(false)];
  try {
    const { handle } = engine.device;
    const watched = stagesOn(screen);
    const limits = Object.fromEntries(LIMITS.map((name) => [name, handle.limits[name]]));
    const found = {
      adapter: engine.info,
      features: [...handle.features].sort(),
      limits,
      matmulGflops: await watched("measuring products", () => matmulRate(engine)),
      variants: await watched("measuring kernels", variantRates),
      copyGigabytesPerSecond: await watched("measuring copies", () => copyRate(engine)),
    };
    if (given["json"]) print(JSON.stringify(found));
    else report(found, print);
  } finally {
    screen.end();
    engine.dispose();
  }
}

/** The same for each choice of kernels, so that whoever has a GPU sees which one it should run. */
async function variantRates(): Promise<Record<string, number>> {
  const rates: Record<string, number> = {};
  for (const variants of ["portable", "subgroups"] as const) {
    using engine = await createEngine({ variants });
    if (variants === "portable" || engine.info.subgroup !== undefined) rates[variants] = await matmulRate(engine);
  }
  return rates;
}

/** GFLOP/s of a square product through the engine. */
async function matmulRate(engine: Engine): Promise<number> {
  const size = engine.info.isSoftware ? 512 : 2048;
  const seconds = await bestTime(engine, size, (recorder, x) => {
    return recorder.apply(linear, { x, w: recorder.input("w", [size, size]) }, { layout: "in_out" });
  });
  return (2 * size ** 3) / seconds / 1e9;
}

/** GB/s moved by an addition: two reads and a write for each element. */
async function copyRate(engine: Engine): Promise<number> {
  const size = engine.info.isSoftware ? 1024 : 4096;
  const seconds = await bestTime(engine, size, (recorder, a) => {
    return recorder.apply(add, { a, b: recorder.input("w", [size, size]) }, {});
  });
  return (3 * 4 * size ** 2) / seconds / 1e9;
}

/** Ops of a long chain: as many as take a second, within these bounds. */
const [FEWEST, MOST] = [2, 20];

/** Seconds of one op in a chain, from a short chain and a long one: uploads and readback cancel. */
async function bestTime(engine: Engine, size: number, op: (recorder: Recorder, x: Value) => Value): Promise<number> {
  const data = new Float32Array(size * size);
  const time = async (repeats: number): Promise<number> => {
    const recorder = new Recorder();
    let y = recorder.input("x", [size, size]);
    for (let i = 0; i < repeats; i++) y = op(recorder, y);
    const executor = new Executor(engine.device);
    const planned = plan(recorder, { outputs: { y }, limits: engine.device.limits });
    await executor.hold([planned]);
    let best = Infinity;
    for (let round = 0; round < 4; round++) {
      const start = performance.now();
      await executor.run(planned, { lease: noTensors }, { x: data, w: data });
      best = Math.min(best, (performance.now() - start) / 1000);
    }
    executor.dispose();
    return best;
  };
  const once = await time(1);
  const repeats = Math.min(MOST, Math.max(FEWEST, Math.floor(1 / once)));
  return Math.max(1e-9, ((await time(repeats + 1)) - once) / repeats);
}

const noTensors = (name: string): never => {
  throw new Error(`The measurement binds no tensor ${name}.`);
};

interface Found {
  readonly adapter: Engine["info"];
  readonly features: readonly string[];
  readonly limits: Readonly<Record<string, number>>;
  readonly matmulGflops: number;
  readonly variants: Readonly<Record<string, number>>;
  readonly copyGigabytesPerSecond: number;
}

function report(
  { adapter, features, limits, matmulGflops, variants, copyGigabytesPerSecond }: Found,
  print: (line: string) => void,
): void {
  print(`adapter   ${adapter.device || adapter.vendor} (${adapter.isSoftware ? "software" : "hardware"})`);
  print(`driver    ${adapter.description}`);
  print(`features  ${features.join(", ") || "none"}`);
  for (const [name, value] of Object.entries(limits)) print(`limit     ${name} ${value}`);
  print(`product   ${matmulGflops.toFixed(1)} GFLOP/s`);
  for (const [name, rate] of Object.entries(variants)) print(`          ${rate.toFixed(1)} with kernels: ${name}`);
  print(`addition  ${copyGigabytesPerSecond.toFixed(1)} GB/s`);
}
