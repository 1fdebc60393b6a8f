import benny from "benny";
import type { Engine } from "../src/engine";
import { linear } from "../src/ops/linear";
import { Executor } from "../src/run/executor";
import type { TensorStore } from "../src/run/store";
import { plan } from "../src/tape/plan";
import { Recorder } from "../src/tape/tape";
import { loadGpuJs } from "./support/gpujs";
import { main } from "./support/main";
import { report, round } from "./support/results";

const SIZES = [256, 512];
const MODES = ["webgpu", "cpu"] as const;
const MAX_SECONDS = 3;

/** Compares the matrix product of gpu.js with ours, both from host data to host data, in one benny suite for each size. */
export async function gpujs(engine: Engine): Promise<void> {
  const rows: Record<string, unknown>[] = [];
  for (const size of SIZES) {
    using product = await ourProduct(engine, size);
    const peers = await Promise.all(MODES.map((mode) => gpuJsProduct(mode, size)));
    for (const multiply of peers) await checkClose(product.run, multiply, size);
    const { results } = await benny.suite(
      `product ${size}`,
      benny.add("safetape", () => product.run(), { maxTime: MAX_SECONDS }),
      ...peers.map((run, i) => benny.add(`gpu.js, ${MODES[i] ?? ""}`, () => run(), { maxTime: MAX_SECONDS })),
    );
    const ours = results[0]?.details.median ?? NaN;
    for (const { name, details } of results) {
      const { median, min, max } = details;
      const gflops = round((2 * size ** 3) / median / 1e9);
      const milliseconds = { ms: round(1000 * median), fastest: round(1000 * min), slowest: round(1000 * max) };
      rows.push({ size, engine: name, ...milliseconds, "GFLOP/s": gflops, "time / safetape's": round(median / ours) });
    }
  }
  await report(engine, "gpujs", rows);
}

type Product = () => Promise<Float32Array>;

/** An element of the left and of the right operand, which are the same matrix for every engine. */
const element = (row: number, column: number): number => Math.sin(row * 31 + column);

async function ourProduct(engine: Engine, size: number): Promise<{ run: Product } & Disposable> {
  const executor = new Executor(engine.device);
  const recorder = new Recorder();
  const [x, w] = [recorder.input("x", [size, size]), recorder.input("w", [size, size])];
  const y = recorder.apply(linear, { x, w }, { layout: "in_out" });
  const productPlan = plan(recorder, { outputs: { y }, limits: engine.device.limits });
  await executor.hold([productPlan]);
  const data = Float32Array.from({ length: size * size }, (_, i) => element(Math.floor(i / size), i % size));
  const run: Product = async () => (await executor.run(productPlan, NO_TENSORS, { x: data, w: data })).get("y")!;
  return { run, [Symbol.dispose]: () => executor.dispose() };
}

/** The store of a plan that has only inputs. */
const NO_TENSORS: TensorStore = {
  lease(name) {
    throw new Error(`The product's plan reads a tensor ${name}, which there is not.`);
  },
};

/** The product as in gpu.js's documentation. */
async function gpuJsProduct(mode: (typeof MODES)[number], size: number): Promise<Product> {
  const GPU = await loadGpuJs();
  const kernel = new GPU({ mode }).createKernel(`function (a, b) {
    let sum = 0;
    for (let i = 0; i < ${size}; i++) sum += a[this.thread.y][i] * b[i][this.thread.x];
    return sum;
  }`);
  const multiply = kernel.setOutput([size, size]);
  const row = (i: number): number[] => Array.from({ length: size }, (_, j) => element(i, j));
  const matrix = Array.from({ length: size }, (_, i) => row(i));
  return async () => {
    // gpu.js gives a 2D output as an array of rows.
    const rows = (await multiply(matrix, matrix)) as ArrayLike<number>[];
    const flat = new Float32Array(size * size);
    Array.from(rows).forEach((values, i) => flat.set(values, i * size));
    return flat;
  };
}

/** Throws if the two products differ: then their times cannot be compared. */
async function checkClose(ours: Product, theirs: Product, size: number): Promise<void> {
  const [expected, actual] = [await ours(), await theirs()];
  const wrong = expected.findIndex((value, i) => !(Math.abs(value - actual[i]!) < 1e-3 * Math.sqrt(size)));
  if (wrong >= 0) throw new Error(`Element ${wrong} is ${expected[wrong]} here and ${actual[wrong]} in gpu.js.`);
}

await main("gpujs", gpujs);
