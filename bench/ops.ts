import type { Engine } from "../src/engine";
import type { Attributes, OpCase, TestedOp } from "../src/op/declaration";
import { OPS } from "../src/testing/ops";
import { benchOp } from "../src/testing/bench-op";
import type { OpTiming } from "../src/testing/bench-op";
import { measureCeiling } from "../src/testing/ceiling";
import type { Ceiling } from "../src/testing/ceiling";
import { hasTimeFor } from "./support/deadline";
import { main } from "./support/main";
import { report, round, writeResults } from "./support/results";

/** Times the bench cases of all ops: forward, then forward and backward together. */
export async function ops(engine: Engine): Promise<void> {
  const ceiling = await measureCeiling(engine, { hasTimeFor });
  const rows: Record<string, unknown>[] = [];
  const cases = OPS.flatMap((op) => op.cases.filter(({ bench }) => bench).map((test) => ({ op, test })));
  const names = cases.map(({ op, test }) => `${op.name}: ${test.name}`);
  for (const [i, { op, test }] of cases.entries()) {
    if (!hasTimeFor(names[i]!)) continue;
    await writeResults(engine, "ops", rows, names.slice(i));
    rows.push(...(await measure(engine, ceiling, op, test)));
  }
  await report(engine, "ops", rows);
}

/** The host's clock, by which earlier results were measured. */
async function measure(
  engine: Engine,
  ceiling: Ceiling,
  op: TestedOp,
  test: OpCase<Attributes>,
): Promise<Record<string, unknown>[]> {
  return (await benchOp(engine, op, [test], { ceiling, clock: "host", milliseconds: 1000 })).map(rowOf);
}

const rowOf = (timing: OpTiming): Record<string, unknown> => ({
  op: timing.op,
  case: timing.case,
  pass: timing.pass,
  ms: round(timing.ms),
  "fastest ms": round(timing.fastestMs),
  "slowest ms": round(timing.slowestMs),
  "GFLOP/s": round(timing.gflops),
  "of FMA rate": round(timing.ofFmaRate),
  ...(timing.gigabytesPerSecond !== undefined && { "GB/s": round(timing.gigabytesPerSecond) }),
  ...(timing.ofCopyRate !== undefined && { "of copy rate": round(timing.ofCopyRate) }),
});

await main("ops", ops);
