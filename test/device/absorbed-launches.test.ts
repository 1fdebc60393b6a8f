import { expect, it } from "vitest";
import { add } from "../../src/ops/add";
import { layerNorm } from "../../src/ops/layer_norm";
import { rmsNorm } from "../../src/ops/rms_norm";
import { scale } from "../../src/ops/scale";
import { deviceLaunches } from "../../src/run/device-launches";
import { Executor } from "../../src/run/executor";
import type { Inputs } from "../../src/run/executor";
import { plan } from "../../src/tape/plan";
import type { Plan } from "../../src/tape/plan";
import { Recorder } from "../../src/tape/tape";
import type { Value } from "../../src/tape/tape";
import { useEngine } from "../support/engine";

const { device } = await useEngine();

const NORMS: Readonly<Record<string, (recorder: Recorder, x: Value, columns: number) => Value>> = {
  layer_norm: (recorder, x, columns) => {
    const [weight, bias] = [recorder.input("weight", [columns]), recorder.input("bias", [columns])];
    return recorder.apply(layerNorm, { x, weight, bias }, { eps: 1e-5, keep: "y" });
  },
  rms_norm: (recorder, x, columns) =>
    recorder.apply(rmsNorm, { x, weight: recorder.input("weight", [columns]) }, { eps: 1e-5, offset: 0, keep: "y" }),
};

async function run(planned: Plan, inputs: Inputs): Promise<ReadonlyMap<string, Float32Array>> {
  const executor = new Executor(device);
  try {
    await executor.hold([planned]);
    const used = Object.fromEntries(Object.entries(inputs).filter(([name]) => planned.inputs.has(name)));
    return await executor.run(planned, { lease: (name) => expect.unreachable(name) }, used);
  } finally {
    executor.dispose();
  }
}

/**
 * What is read after the norm, and the entries that run. Where the residual is not read, its buffer is free for the norm's output, or
 * for its statistics where that of x is free too; no entry expects them there.
 */
const READS: readonly { readonly later: readonly string[]; readonly entries: readonly string[] }[] = [
  { later: [], entries: ["forward", "add_forward_in_place"] },
  { later: ["sum", "residual"], entries: ["forward", "add_forward"] },
  { later: ["sum", "x"], entries: ["forward", "add_y_forward"] },
  { later: ["sum"], entries: ["forward", "forward_in_place", "forward"] },
];

const cases = Object.keys(NORMS).flatMap((name) =>
  [64, 63].flatMap((columns) => READS.map((reads) => ({ name, columns, ...reads }))),
);

it.each(cases)("$name absorbs the sum before it, with its bits: $columns columns, then read: $later", async (test) => {
  const { name, columns, later, entries } = test;
  const shape = [5, columns];
  const norm = NORMS[name]!;
  const values = (size: number, phase: number): Float32Array =>
    Float32Array.from({ length: size }, (_, i) => Math.sin(1 + phase + i * 0.7));
  const inputs = {
    x: values(5 * columns, 0),
    residual: values(5 * columns, 1),
    weight: values(columns, 2),
    bias: values(columns, 3),
  };

  const together = new Recorder();
  const x = together.input("x", shape);
  const a = together.apply(scale, { x }, { factor: 3 });
  const residual = together.input("residual", shape);
  const sum = together.apply(add, { a, b: residual }, {});
  const y = norm(together, sum, columns);
  const read = Object.entries({ sum, residual, x }).filter(([value]) => later.includes(value));
  const planned = plan(together, { outputs: { y, ...Object.fromEntries(read) }, limits: device.limits });
  expect(deviceLaunches(planned, device).map(({ launch }) => launch.entry)).toEqual(entries);
  const results = await run(planned, inputs);

  const first = new Recorder();
  const scaled = first.apply(scale, { x: first.input("x", shape) }, { factor: 3 });
  const separate = first.apply(add, { a: scaled, b: first.input("residual", shape) }, {});
  const sums = await run(plan(first, { outputs: { sum: separate }, limits: device.limits }), inputs);
  const second = new Recorder();
  const alone = norm(second, second.input("sum", shape), columns);
  const norms = await run(plan(second, { outputs: { y: alone }, limits: device.limits }), {
    ...inputs,
    sum: sums.get("sum")!,
  });
  expect(results.get("y")).toEqual(norms.get("y"));
  if (later.includes("sum")) expect(results.get("sum")).toEqual(sums.get("sum"));
});
