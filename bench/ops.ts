import type { Dtype } from "../src/base/dtype";
import { elements } from "../src/base/shape";
import type { Engine } from "../src/engine";
import type { Attributes, CaseInput, Op, OpCase } from "../src/op/declaration";
import { OPS } from "../src/ops/index";
import { specBytes } from "../src/tape/emit";
import { LOSS_GRADIENT, plan } from "../src/tape/plan";
import type { Plan } from "../src/tape/plan";
import { Recorder } from "../src/tape/tape";
import { measureCeiling } from "./support/ceiling";
import type { Ceiling } from "./support/ceiling";
import { hasTimeFor } from "./support/deadline";
import { main } from "./support/main";
import { report, round, writeResults } from "./support/results";
import { timePlan } from "./support/timing";

/** Times the bench cases of all ops: forward, then forward and backward together. */
export async function ops(engine: Engine): Promise<void> {
  const ceiling = await measureCeiling(engine);
  const rows: Record<string, unknown>[] = [];
  const cases = OPS.flatMap((op) => op.cases.filter(({ bench }) => bench).map((test) => ({ op, test })));
  const names = cases.map(({ op, test }) => `${op.name}: ${test.name}`);
  for (const [i, { op, test }] of cases.entries()) {
    if (!hasTimeFor(names[i]!)) continue;
    await writeResults(engine, "ops", rows, names.slice(i));
    rows.push(await measure(engine, ceiling, op, test, false));
    if (op.gradients.length > 0) rows.push(await measure(engine, ceiling, op, test, true));
  }
  await report(engine, "ops", rows);
}

/** Ops whose forward pass accesses only a few rows of a bound table. */
const FEW_ROWS: ReadonlySet<string> = new Set(["embedding", "cache_append"]);

async function measure(
  engine: Engine,
  ceiling: Ceiling,
  op: Op,
  test: OpCase<Attributes>,
  backward: boolean,
): Promise<Record<string, unknown>> {
  const recorder = new Recorder();
  // Differentiable and mutated operands are parameters. The others are inputs, which every run uploads again.
  const isParameter = (slot: string): boolean =>
    (op.inputs[slot]?.mutated ?? false) || (op.inputs[slot]?.gradient ?? false);
  const values = Object.fromEntries(
    Object.entries(test.inputs).map(([slot, { shape }]) => {
      const dtype = op.inputs[slot]?.dtype ?? "f32";
      return [slot, isParameter(slot) ? recorder.parameter(slot, shape, dtype) : recorder.input(slot, shape, dtype)];
    }),
  );
  const outputs = recorder.record(op, values, test.attributes);
  const loss = outputs[op.outputs[0]!];
  const trainable = new Set(Object.keys(test.inputs).filter((slot) => op.inputs[slot]?.gradient));
  const { limits } = engine.device;
  // Outputs are not read back, since that would measure the copy to the host.
  const timedPlan = plan(recorder, {
    outputs: {},
    effects: true,
    limits,
    ...(backward && loss ? { loss, trainable } : {}),
  });
  const inputs = Object.fromEntries([
    ...Object.entries(test.inputs).map(
      ([slot, input]) => [slot, fill(op.inputs[slot]?.dtype ?? "f32", input)] as const,
    ),
    ...(loss ? [[LOSS_GRADIENT, new Float32Array(elements(loss.shape)).fill(1)] as const] : []),
  ]);
  const { fastest, median, slowest } = await timePlan(engine, timedPlan, inputs);
  const gflops = (timedPlan.flops.forward + timedPlan.flops.backward) / fastest / 1e6;
  const readsAll = backward || !FEW_ROWS.has(op.name);
  const gigabytes = movedBytes(timedPlan) / fastest / 1e6;
  return {
    op: op.name,
    case: test.name,
    pass: backward ? "forward + backward" : "forward",
    ms: round(median),
    "fastest ms": round(fastest),
    "slowest ms": round(slowest),
    "GFLOP/s": round(gflops),
    "of FMA rate": round(gflops / ceiling.gflops),
    ...(readsAll ? { "GB/s": round(gigabytes), "of copy rate": round(gigabytes / ceiling.gigabytesPerSecond) } : {}),
  };
}

/** Bytes of the buffers that each launch binds, summed over the launches, plus the bytes of the uploads. */
function movedBytes({ launches, inputs }: Plan): number {
  const bound = launches.flatMap(({ bindings }) => bindings.map(({ bytes }) => bytes));
  const uploads = [...inputs.values()].map(({ spec }) => specBytes(spec));
  return [...bound, ...uploads].reduce((a, b) => a + b, 0);
}

function fill(dtype: Dtype, input: CaseInput): Float32Array | Int32Array | Uint32Array {
  const count = elements(input.shape);
  const value = (i: number): number =>
    "values" in input ? input.values[i]! : "below" in input ? (i * 7919) % input.below : Math.sin(i);
  const make = { length: count };
  if (dtype === "i32") return Int32Array.from(make, (_, i) => value(i));
  if (dtype === "u32") return Uint32Array.from(make, (_, i) => value(i));
  if (!["f32", "i32", "u32"].includes(dtype)) throw new Error(`The bench does not support inputs of ${dtype}.`);
  return Float32Array.from(make, (_, i) => value(i));
}

await main("ops", ops);
