import benny from "benny";
import type { Engine } from "../src/engine";
import { linear } from "../src/ops/linear";
import { Executor } from "../src/run/executor";
import { plan } from "../src/tape/plan";
import { Recorder } from "../src/tape/tape";
import { main } from "./support/main";
import { report, round } from "./support/results";

type Matrix = number[][];
type Multiply = (a: Matrix, b: Matrix) => unknown;

/** gpu.js's own matrix product beside ours, both from host data to host data, in one benny suite a size. */
export async function peers(engine: Engine): Promise<void> {
  const rows: Record<string, unknown>[] = [];
  for (const size of [256, 512]) {
    const multiply = await gpuJsProduct(size);
    using executor = new Executor(engine.device);
    const recorder = new Recorder();
    const [x, w] = [recorder.input("x", [size, size]), recorder.input("w", [size, size])];
    const y = recorder.apply(linear, { x, w }, { layout: "in_out" });
    const planned = plan(recorder, { outputs: { y }, limits: engine.device.limits });
    await executor.hold([planned]);
    const data = Float32Array.from({ length: size * size }, (_, i) => Math.sin(i));
    const matrix: Matrix = Array.from({ length: size }, (_, i) => [...data.subarray(i * size, (i + 1) * size)]);
    const none = {
      lease: (name: string): never => {
        throw new Error(`No tensor ${name}.`);
      },
    };
    const summary = await benny.suite(
      `product ${size}`,
      benny.add(
        "safetape",
        async () => {
          await executor.run(planned, none, { x: data, w: data });
        },
        { maxTime: 2 },
      ),
      benny.add(
        "gpu.js cpu",
        () => {
          multiply(matrix, matrix);
        },
        { maxTime: 2 },
      ),
      benny.complete(),
    );
    const [ours, theirs] = summary.results;
    rows.push({
      ...{
        size,
        "safetape ms": round(1000 / (ours?.ops || NaN)),
        "gpu.js (cpu) ms": round(1000 * (theirs?.details.median ?? NaN)),
      },
      ...{ "safetape median ms": round(1000 * (ours?.details.median ?? NaN)) },
      ...{ ratio: round((theirs?.details.median ?? NaN) / (ours?.details.median ?? NaN)) },
    });
  }
  await report(engine, "peers", rows);
}

/** The product as gpu.js's documentation writes it. */
async function gpuJsProduct(size: number): Promise<Multiply> {
  const { GPU } = (await import("gpu.js")) as unknown as {
    GPU: new (options: object) => { createKernel(body: unknown): { setOutput(size: number[]): Multiply } };
  };
  const gpu = new GPU({ mode: "cpu" });
  const body = `function (a, b) {
    let sum = 0;
    for (let i = 0; i < ${size}; i++) sum += a[this.thread.y][i] * b[i][this.thread.x];
    return sum;
  }`;
  return gpu.createKernel(body).setOutput([size, size]);
}

await main("peers", peers);
