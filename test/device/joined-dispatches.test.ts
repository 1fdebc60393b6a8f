import { expect, it } from "vitest";
import { relativeError } from "../../src/base/relative-error";
import { readBuffer } from "../../src/gpu/readback";
import { add } from "../../src/ops/add";
import { attention } from "../../src/ops/attention";
import { dropout } from "../../src/ops/dropout";
import { layerNorm } from "../../src/ops/layer_norm";
import { loraLinear } from "../../src/ops/lora_linear";
import { rope } from "../../src/ops/rope";
import { scale } from "../../src/ops/scale";
import { swiglu } from "../../src/ops/swiglu";
import { deviceLaunches } from "../../src/run/device-launches";
import { Executor } from "../../src/run/executor";
import type { Inputs } from "../../src/run/executor";
import { gradientName } from "../../src/run/store";
import { specBytes } from "../../src/tape/emit";
import { LOSS_GRADIENT, plan } from "../../src/tape/plan";
import type { Plan } from "../../src/tape/plan";
import { elements } from "../../src/base/shape";
import { Recorder } from "../../src/tape/tape";
import type { Value } from "../../src/tape/tape";
import { useDevice } from "../support/engine";

/** The GPUs' kernel for both gradients of a LoRA; everything else by portable kernels. */
const device = await useDevice({}, ({ variants }) => variants?.find(({ kernel }) => kernel.name === "lora_gradients"));

/** An activation [shape] that a parameter gives, so that its gradient is one too. */
const activation = (recorder: Recorder, name: string, shape: readonly number[]): Value =>
  recorder.apply(scale, { x: recorder.parameter(name, shape) }, { factor: 0.5 });

interface Joined {
  readonly name: string;
  /** Entries of dispatches that do the work of several launches. */
  readonly entries: readonly string[];
  /** Whether it sums in another order. */
  readonly rounds?: boolean;
  readonly record: (recorder: Recorder) => Value;
}

const JOINED: readonly Joined[] = [
  ...[
    { heads: 2, kvHeads: 2, head: 8 },
    { heads: 4, kvHeads: 2, head: 6 },
  ].map(({ heads, kvHeads, head }): Joined => ({
    name: `rotations of queries and keys, ${heads} heads of ${head} over ${kvHeads}`,
    entries: ["forward_both_in_place", "grad_x_both_in_place"],
    record: (recorder) => {
      const [batch, time] = [2, 37];
      const table = recorder.input("table", [time, 2, head / 2]);
      const projected = [heads, kvHeads].map((count, i) => activation(recorder, `p${i}`, [batch, time, count * head]));
      const [q, k] = projected.map((x, i) => recorder.apply(rope, { x, table }, { heads: [heads, kvHeads][i]! }));
      const v = activation(recorder, "v", [batch, time, kvHeads * head]);
      const mask = recorder.input("mask", [batch, time], "i32");
      const seed = recorder.input("seed", [batch, 2], "u32");
      const attributes = { heads, kvHeads, causal: true, scale: 0.3, dropout: 0, salt: 0 };
      return recorder.apply(attention, { q: q!, k: k!, v, mask, seed }, attributes);
    },
  })),
  ...[64, 63].map((columns): Joined => ({
    name: `both gradients of a gated unit of ${columns} columns`,
    entries: ["grad_gate_up_in_place"],
    record: (recorder) => {
      const [gate, up] = ["gate", "up"].map((name) => activation(recorder, name, [3, columns]));
      const y = recorder.apply(swiglu, { gate: gate!, up: up! }, {});
      return recorder.apply(scale, { x: y }, { factor: 2 });
    },
  })),
  ...[64, 63].map((columns): Joined => ({
    name: `dropout, sum and layer norm of ${columns} columns, and their gradients`,
    entries: ["add_dropped_forward_in_place", "grad_x_from_y_in_place_dropped"],
    record: (recorder) => {
      const seed = recorder.input("seed", [2, 2], "u32");
      const [x, b] = ["x", "residual"].map((name) => activation(recorder, name, [2, 5, columns]));
      const a = recorder.apply(dropout, { x: x!, seed }, { probability: 0.3, salt: 4 });
      const sum = recorder.apply(add, { a, b: b! }, {});
      const weight = recorder.input("weight", [columns]);
      const norm = { x: sum, weight, bias: recorder.input("bias", [columns]) };
      return recorder.apply(layerNorm, norm, { eps: 1e-5, keep: "y" });
    },
  })),
  {
    name: "both gradients of a LoRA",
    entries: ["both"],
    rounds: true,
    record: (recorder) => {
      const [rows, width, out, rank] = [530, 44, 100, 24];
      const [x, w] = [recorder.input("x", [rows, width]), recorder.input("w", [out, width])];
      const [a, b] = [recorder.parameter("a", [rank, width]), recorder.parameter("b", [out, rank])];
      return recorder.apply(loraLinear, { x, w, a, b }, { layout: "out_in", scale: 0.5, dropout: 0, salt: 0 });
    },
  },
];

/** Limit of the difference where sums, which mostly cancel, have another order, relative to the largest value. */
const ROUNDING = 5e-5;

/** A plan whose launches absorb nothing. */
const alone = (planned: Plan): Plan => ({
  ...planned,
  launches: planned.launches.map((each) => ({ ...each, launch: { ...each.launch, absorbs: [] } })),
});

const values = (count: number, phase: number): Float32Array =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(1 + phase + i * 0.7));

/** Runs a plan and returns its output and the gradients of its parameters. */
async function run(planned: Plan): Promise<Record<string, Float32Array>> {
  const executor = new Executor(device);
  const tensors = [
    ...planned.parameters,
    ...[...planned.gradients].map(([name, spec]) => [gradientName(name), spec] as const),
  ];
  const leases = new Map(tensors.map(([name, spec]) => [name, device.pool.lease(specBytes(spec), "state")]));
  try {
    for (const [i, [name, spec]] of [...planned.parameters].entries()) {
      device.upload(leases.get(name)!.buffer, 0, values(elements(spec.shape), i));
    }
    await executor.hold([planned]);
    const inputs = [...planned.inputs].map(([name, { spec }]): [string, Inputs[string]] => {
      const count = elements(spec.shape);
      if (spec.dtype === "u32") return [name, Uint32Array.from({ length: count }, (_, i) => 5 + i)];
      return [name, spec.dtype === "i32" ? new Int32Array(count).fill(1) : values(count, 9)];
    });
    const { y } = Object.fromEntries(
      await executor.run(planned, { lease: (name) => leases.get(name)! }, Object.fromEntries(inputs)),
    );
    const results: Record<string, Float32Array> = { y: y! };
    for (const name of planned.gradients.keys()) {
      results[name] = new Float32Array(await readBuffer(device, leases.get(gradientName(name))!));
    }
    return results;
  } finally {
    executor.dispose();
    for (const lease of leases.values()) device.pool.return(lease);
  }
}

it.each(JOINED)("$name: one dispatch with the results of two", async ({ entries, rounds, record }) => {
  const recorder = new Recorder();
  const y = record(recorder);
  const trainable = new Set(
    recorder.values.flatMap(({ origin }) => (origin.kind === "parameter" ? [origin.name] : [])),
  );
  const planned = plan(recorder, { outputs: { y }, loss: y, trainable, limits: device.limits });
  expect(planned.inputs.has(LOSS_GRADIENT)).toBe(true);
  expect(deviceLaunches(planned, device).map(({ launch }) => launch.entry)).toEqual(
    expect.arrayContaining([...entries]),
  );
  const [together, separate] = [await run(planned), await run(alone(planned))];
  if (!rounds) expect(together).toEqual(separate);
  for (const [name, values] of Object.entries(separate)) {
    expect(relativeError(together[name]!, values), name).toBeLessThan(ROUNDING);
  }
});
