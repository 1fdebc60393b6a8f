import copyKernel from "../kernels/copy.wgsl";
import fmaKernel from "../kernels/fma.wgsl";
import type { Engine } from "../../src/engine";
import { defineOp } from "../../src/op/declaration";
import type { NoAttributes } from "../../src/op/declaration";
import { plan } from "../../src/tape/plan";
import { Recorder } from "../../src/tape/tape";
import { timePlan } from "./timing";

const ROUNDS = 4096;
const INVOCATIONS = 64 * 64;

/** An op that is a loop of fused multiply-adds. */
const fmaLoop = defineOp<NoAttributes>({
  name: "fma loop",
  inputs: { x: {} },
  outputs: ["y"],
  infer: () => ({ y: { shape: [INVOCATIONS], dtype: "f32" } }),
  forward: () => [
    {
      kernel: fmaKernel,
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

/** An op that copies its input: it reads and writes each element once. */
const copy = defineOp<NoAttributes>({
  name: "copy",
  inputs: { x: {} },
  outputs: ["y"],
  infer: (context) => ({ y: context.spec("x") }),
  forward: (context) => {
    const vectors = (context.spec("x").shape[0] ?? 0) / 4;
    return [
      {
        kernel: copyKernel,
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

/** The highest rates that simple kernels reach on an adapter; the op benches report their kernels as shares of them. */
export interface Ceiling {
  readonly gflops: number;
  readonly gigabytesPerSecond: number;
}

const ATTEMPTS = 5;

/** Measures several times and keeps the highest rates, since other programs can only lower a measurement. */
export async function measureCeiling(engine: Engine): Promise<Ceiling> {
  const attempts: Ceiling[] = [];
  for (let i = 0; i < ATTEMPTS; i++) attempts.push(await measureOnce(engine));
  return {
    gflops: Math.max(...attempts.map(({ gflops }) => gflops)),
    gigabytesPerSecond: Math.max(...attempts.map(({ gigabytesPerSecond }) => gigabytesPerSecond)),
  };
}

/** Measures both rates as the difference between a long and a short chain of ops, in which the transfers cancel. */
async function measureOnce(engine: Engine): Promise<Ceiling> {
  const size = engine.info.isSoftware ? 1 << 20 : 1 << 24;
  const timeChain = async (op: typeof copy, length: number, elements: number): Promise<number> => {
    const recorder = new Recorder();
    let x = recorder.input("x", [elements]);
    for (let i = 0; i < length; i++) x = recorder.apply(op, { x }, {});
    const chain = plan(recorder, { outputs: { x }, limits: engine.device.limits });
    return (await timePlan(engine, chain, { x: new Float32Array(elements) })).fastest;
  };
  const fmaTime = (await timeChain(fmaLoop, 4, INVOCATIONS)) - (await timeChain(fmaLoop, 1, INVOCATIONS));
  const copyTime = (await timeChain(copy, 17, size)) - (await timeChain(copy, 1, size));
  return {
    gflops: (3 * 2 * 16 * ROUNDS * INVOCATIONS) / fmaTime / 1e6,
    gigabytesPerSecond: (16 * 8 * size) / copyTime / 1e6,
  };
}
