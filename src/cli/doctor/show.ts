import { createEngine } from "../../node/index";
import type { Engine } from "../../engine";
import { add } from "../../ops/add";
import { linear } from "../../ops/linear";
import { Executor } from "../../run/executor";
import { plan } from "../../tape/plan";
import { Recorder } from "../../tape/tape";
import type { Value } from "../../tape/tape";
import { DOCTOR } from "../flags";
import { readOptions } from "../options";
import type { Print, RawOptions } from "../options";
import { progressOn } from "../view/progress";
import { Screen } from "../view/screen";

const LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupsPerDimension",
] as const;

/** `safetape doctor` without other options: shows the adapter, its limits, and how fast it multiplies and copies. */
export async function showCommand(raw: RawOptions, print: Print): Promise<void> {
  const { json } = readOptions(DOCTOR, raw);
  const screen = new Screen(false);
  const progress = progressOn(screen);
  try {
    using engine = await createEngine();
    const { handle } = engine.device;
    const diagnosis = {
      adapter: engine.info,
      features: [...handle.features].sort(),
      limits: Object.fromEntries(LIMITS.map((name) => [name, handle.limits[name]])),
      matmulGflops: await progress("measuring products", () => matmulRate(engine)),
      variants: await progress("measuring kernels", () => variantRates(engine.info.isSoftware)),
      copyGigabytesPerSecond: await progress("measuring copies", () => copyRate(engine)),
    };
    if (json) print(JSON.stringify(diagnosis));
    else printDiagnosis(diagnosis, print);
  } finally {
    screen.end();
  }
}

/** GFLOP/s of a square product by choice of kernels. Those for GPUs take a software adapter seconds to compile, and it never runs them. */
async function variantRates(isSoftware: boolean): Promise<Record<string, number>> {
  const rates: Record<string, number> = {};
  for (const variants of ["portable", "subgroups", ...(isSoftware ? [] : (["gpu"] as const))] as const) {
    using engine = await createEngine({ variants });
    if (variants !== "subgroups" || engine.info.subgroup !== undefined) rates[variants] = await matmulRate(engine);
  }
  return rates;
}

/** GFLOP/s of a square product. */
async function matmulRate(engine: Engine): Promise<number> {
  const size = engine.info.isSoftware ? 512 : 2048;
  const seconds = await secondsPerOp(engine, size, (recorder, x) => {
    return recorder.apply(linear, { x, w: recorder.input("w", [size, size]) }, { layout: "in_out" });
  });
  return (2 * size ** 3) / seconds / 1e9;
}

/** GB/s of an addition, which reads two elements and writes one. */
async function copyRate(engine: Engine): Promise<number> {
  const size = engine.info.isSoftware ? 1024 : 4096;
  const seconds = await secondsPerOp(engine, size, (recorder, a) => {
    return recorder.apply(add, { a, b: recorder.input("w", [size, size]) }, {});
  });
  return (3 * 4 * size ** 2) / seconds / 1e9;
}

/** Fewest and most ops that a long chain has in addition to a short one; otherwise as many as take a second. */
const [FEWEST_OPS, MOST_OPS] = [2, 20];

/** Seconds of one op: the difference between a long chain and a short one, in which upload and readback cancel. */
async function secondsPerOp(
  engine: Engine,
  size: number,
  op: (recorder: Recorder, x: Value) => Value,
): Promise<number> {
  const data = new Float32Array(size * size);
  const secondsOf = async (ops: number): Promise<number> => {
    const recorder = new Recorder();
    let y = recorder.input("x", [size, size]);
    for (let i = 0; i < ops; i++) y = op(recorder, y);
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
  const one = await secondsOf(1);
  const more = Math.min(MOST_OPS, Math.max(FEWEST_OPS, Math.floor(1 / one)));
  return Math.max(1e-9, ((await secondsOf(more + 1)) - one) / more);
}

const noTensors = (name: string): never => {
  throw new Error(`The measurement has no tensor ${name}.`);
};

interface Diagnosis {
  readonly adapter: Engine["info"];
  readonly features: readonly string[];
  readonly limits: Readonly<Record<string, number>>;
  readonly matmulGflops: number;
  readonly variants: Readonly<Record<string, number>>;
  readonly copyGigabytesPerSecond: number;
}

function printDiagnosis(
  { adapter, features, limits, matmulGflops, variants, copyGigabytesPerSecond }: Diagnosis,
  print: Print,
): void {
  print(`adapter   ${adapter.device || adapter.vendor} (${adapter.isSoftware ? "software" : "hardware"})`);
  print(`driver    ${adapter.description}`);
  print(`features  ${features.join(", ") || "none"}`);
  for (const [name, value] of Object.entries(limits)) print(`limit     ${name} ${value}`);
  print(`product   ${matmulGflops.toFixed(1)} GFLOP/s`);
  for (const [name, rate] of Object.entries(variants)) print(`          ${rate.toFixed(1)} with kernels: ${name}`);
  print(`addition  ${copyGigabytesPerSecond.toFixed(1)} GB/s`);
}
