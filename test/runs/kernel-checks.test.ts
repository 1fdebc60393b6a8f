import { expect, it } from "vitest";
import { memoryTuningCache } from "safetape/engine";
import type { TuningCache } from "safetape";
import { openDevice } from "../../src/gpu/device";
import type { DeviceOptions } from "../../src/gpu/device";
import { sumBytes } from "../../src/gpu/ledger";
import { nodeGpu } from "../../src/node/gpu";
import type { NoAttributes, Op } from "../../src/op/declaration";
import { add } from "../../src/ops/add";
import { attention } from "../../src/ops/attention";
import { linear } from "../../src/ops/linear";
import { Executor } from "../../src/run/executor";
import { executorBytes } from "../../src/run/footprint";
import { plan } from "../../src/tape/plan";
import { Recorder } from "../../src/tape/tape";
import type { Value } from "../../src/tape/tape";
import { COUNT, doubleOp, doubleVariant } from "../support/faulty-op";

const RIGHT = doubleVariant("right", { FACTOR: 2 });
const WRONG = doubleVariant("wrong", { FACTOR: 3 });
const HALF = doubleVariant(
  "half",
  {},
  RIGHT.kernel.code.replace("if id.x < params.count", "if id.x < params.count / 2u"),
);
const BROKEN = doubleVariant("broken", {}, RIGHT.kernel.code.replace("f32(FACTOR)", "nothing"));

/** Columns of a product. */
const WIDE = 256;

/** Runs y = op(x) with x = 1/2 on a device of its own. Resolves with y's first element, what was told, and what is left out. */
async function run(op: Op<NoAttributes>, options: DeviceOptions = {}) {
  const warnings: string[] = [];
  const device = await openDevice(await nodeGpu(), {
    checkKernels: true,
    variants: "gpu",
    ...options,
    tuning: { onWarning: (text) => void warnings.push(text), ...options.tuning },
  });
  const recorder = new Recorder();
  const y = recorder.apply(op, { x: recorder.input("x", [COUNT]) }, {});
  const planned = plan(recorder, { outputs: { y }, limits: device.limits });
  const executor = new Executor(device);
  await executor.hold([planned]);
  const outputs = await executor.run(
    planned,
    { lease: (name) => expect.unreachable(name) },
    { x: new Float32Array(COUNT).fill(0.5) },
  );
  executor.dispose();
  expect(device.pool.ledger.liveBytes, "bytes left").toBe(0);
  const leftOut = [...device.leftOut];
  device.close();
  return { y: outputs.get("y")![0], warnings, leftOut };
}

it("a variant that is wrong is told of once and left out, and the next one or the portable kernel runs", async () => {
  for (const wrong of [WRONG, HALF, BROKEN]) {
    const cache = memoryTuningCache();
    for (const variants of [[wrong, RIGHT], [wrong, HALF], [wrong]]) {
      const { y, warnings, leftOut } = await run(doubleOp(variants), { tuning: { cache } });
      expect(y, wrong.name).toBe(1);
      expect(leftOut[0]).toContain(wrong.kernel.name);
      // The cache knows it from then on.
      const isNew = variants[1] === RIGHT;
      const told = warnings.filter((text) => text.includes(`double_${wrong.name}`));
      expect(told).toHaveLength(isNew ? 1 : 0);
      if (!isNew) continue;
      const [fact, remedy, ...rest] = told[0]!.split("\n");
      const fault = wrong === BROKEN ? "does not compile" : "is wrong by";
      expect(fact).toContain(`safetape: kernels/double_${wrong.name}.wgsl (forward, ${wrong.name}) ${fault}`);
      expect(remedy).toMatch(/^Update the driver; `npx safetape doctor --check`/);
      expect(rest).toEqual([]);
    }
  }
});

it("without the check, a wrong variant runs; with another text it is compared again", async () => {
  const options = { tuning: { cache: memoryTuningCache() } };
  expect((await run(doubleOp([WRONG]), { ...options, checkKernels: false })).y).toBe(1.5);
  expect((await run(doubleOp([WRONG]), options)).y).toBe(1);
  const mended = { ...WRONG, kernel: { ...WRONG.kernel, code: WRONG.kernel.code.replace("f32(FACTOR)", "2.0") } };
  const { y, leftOut } = await run(doubleOp([mended]), options);
  expect(y).toBe(1);
  expect(leftOut).toEqual([]);
});

it("a variant that rounds differently runs, unless tuning promises the portable kernel's bits", async () => {
  const code = RIGHT.kernel.code.replace("f32(FACTOR) * x[id.x]", "f32(FACTOR) * x[id.x] * 1.00001");
  const rounding = doubleVariant("rounding", {}, code);
  const op = doubleOp([rounding]);
  expect((await run(op)).y).toBeCloseTo(1.00001, 6);
  expect((await run(op, { variants: "tuned" })).y).toBe(1);
});

it("kernels of products and attention are right here, and comparing them takes no memory beyond the plan's", async () => {
  const records: object[] = [];
  const cache: TuningCache = {
    load: () => Promise.resolve(undefined),
    save: (_, record) => {
      records.push(record);
      return Promise.resolve();
    },
  };
  const device = await openDevice(await nodeGpu(), { checkKernels: true, tuning: { cache } });
  const recorder = new Recorder();
  const shape = [4, 32, 64];
  const activation = (name: string): Value =>
    recorder.apply(add, { a: recorder.parameter(name, shape), b: recorder.input(`${name}'s input`, shape) }, {});
  const heads = {
    q: activation("q"),
    k: activation("k"),
    v: activation("v"),
    mask: recorder.input("mask", [4, 32], "i32"),
    seed: recorder.input("seed", [4, 2], "u32"),
  };
  // With 16 heads, one dispatch replaces two where attention runs by subgroups.
  const attributes = { heads: 4, kvHeads: 4, scale: 0.25, after: 0, dropout: 0.25, salt: 3 };
  // The product takes more memory than the comparison of the gradients, whose buffers are not all the plan's.
  const x = recorder.apply(attention, heads, attributes);
  const loss = recorder.apply(linear, { x, w: recorder.parameter("w", [WIDE, 64]) }, { layout: "out_in" });
  const planned = [plan(recorder, { outputs: {}, loss, trainable: new Set(["q", "k", "v"]), limits: device.limits })];
  const executor = new Executor(device);
  await executor.hold(planned);
  expect(device.pool.ledger.peakBytes, "peak against plan").toBe(sumBytes(executorBytes(planned)));
  executor.dispose();
  expect(device.pool.ledger.liveBytes).toBe(0);
  expect([...device.leftOut]).toEqual([]);
  expect(records).toHaveLength(1);
  const verdicts = Object.entries(records[0]!);
  const entries = verdicts.map(([key]) => `${key.split(" ")[0]}.${key.split(" ").at(-2)}`);
  const joins = device.info.subgroup !== undefined;
  expect(entries).toEqual(
    expect.arrayContaining(joins ? ["product_subgroup.plain", "attention_subgroup.grad_q_k_v"] : []),
  );
  for (const [key, verdict] of verdicts) expect(verdict, key).toBe(key.startsWith("product") ? "equal" : "rounded");
  device.close();
});
