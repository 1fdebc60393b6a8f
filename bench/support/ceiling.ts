import copyCode from "../kernels/copy.wgsl";
import fma from "../kernels/fma.wgsl";
import type { Engine } from "../../src/engine";
import { defineOp } from "../../src/op/declaration";
import type { NoAttributes } from "../../src/op/declaration";
import { plan } from "../../src/tape/plan";
import { Recorder } from "../../src/tape/tape";
import { timePlan } from "./timing";

const ROUNDS = 4096;
const INVOCATIONS = 64 * 64;

/** A loop of fused multiply-adds, as an op. */
const fmaLoop = defineOp<NoAttributes>({
  name: "fma loop",
  inputs: { x: {} },
  outputs: ["y"],
  infer: () => ({ y: { shape: [INVOCATIONS], dtype: "f32" } }),
  forward: () => [
    {
      kernel: { name: "bench fma", code: fma },
      entry: "forward",
      bindings: { y: "y" },
      params: { unused: 0 },
      constants: { ROUNDS },
      workgroups: INVOCATIONS / 64,
    },
  ],
  gradients: [],
  flops: () => 2 * 16 * ROUNDS * INVOCATIONS,
  reference: () => ({}),
  cases: [],
  malformed: [],
});

/** A copy, as an op: one read and one write an element. */
const copy = defineOp<NoAttributes>({
  name: "copy",
  inputs: { x: {} },
  outputs: ["y"],
  infer: (context) => ({ y: context.spec("x") }),
  forward: (context) => {
    const vectors = (context.spec("x").shape[0] ?? 0) / 4;
    return [
      {
        kernel: { name: "bench copy", code: copyCode },
        entry: "forward",
        bindings: { source: "x", target_: "y" },
        params: { vectors },
        workgroups: Math.ceil(vectors / 64),
      },
    ];
  },
  gradients: [],
  flops: () => 0,
  reference: () => ({}),
  cases: [],
  malformed: [],
});

/** The adapter's own rates, to which kernels are compared. */
export interface Ceiling {
  readonly gflops: number;
  readonly gigabytesPerSecond: number;
}

const TRIES = 5;

/** The highest of several measurements, since what disturbs one only lowers it. */
export async function measureCeiling(engine: Engine): Promise<Ceiling> {
  const tries: Ceiling[] = [];
  for (let i = 0; i < TRIES; i++) tries.push(await measureOnce(engine));
  return {
    gflops: Math.max(...tries.map(({ gflops }) => gflops)),
    gigabytesPerSecond: Math.max(...tries.map(({ gigabytesPerSecond }) => gigabytesPerSecond)),
  };
}

/** The FMA rate, and the copy rate, from chains of different length, so that transfers cancel. */
async function measureOnce(engine: Engine): Promise<Ceiling> {
  const size = engine.info.isSoftware ? 1 << 20 : 1 << 24;
  const chain = async (op: typeof copy, links: number, elements: number): Promise<number> => {
    const recorder = new Recorder();
    let x = recorder.input("x", [elements]);
    for (let i = 0; i < links; i++) x = recorder.apply(op, { x }, {});
    const planned = plan(recorder, { outputs: { x }, limits: engine.device.limits });
    return (await timePlan(engine, planned, { x: new Float32Array(elements) })).fastest;
  };
  const fmaTime = (await chain(fmaLoop, 4, INVOCATIONS)) - (await chain(fmaLoop, 1, INVOCATIONS));
  const copyTime = (await chain(copy, 17, size)) - (await chain(copy, 1, size));
  return {
    gflops: (3 * 2 * 16 * ROUNDS * INVOCATIONS) / fmaTime / 1e6,
    gigabytesPerSecond: (16 * 8 * size) / copyTime / 1e6,
  };
}
