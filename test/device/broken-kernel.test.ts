import { afterAll, beforeAll, expect, it } from "vitest";
import { KernelError } from "safetape";
import type { Device } from "../../src/gpu/device";
import { defineOp } from "../../src/op/declaration";
import type { Op } from "../../src/op/declaration";
import { Executor } from "../../src/run/executor";
import { plan } from "../../src/tape/plan";
import { Recorder } from "../../src/tape/tape";
import { testDevice } from "../support/device";

let device: Device;
beforeAll(async () => void (device = await testDevice()));
afterAll(() => {
  expect(device.pool.ledger.liveBytes).toBe(0);
  device.close();
});

/** y = 2 x, by a kernel whose text is given. */
function twice(name: string, body: string): Op {
  const code = [
    "// Doubles.",
    "const GROUP: u32 = 64u;",
    "@group(0) @binding(0) var<storage, read> x: array<f32>;",
    "@group(0) @binding(1) var<storage, read_write> y: array<f32>;",
    "@compute @workgroup_size(GROUP)",
    "fn forward(@builtin(local_invocation_id) local: vec3u) {",
    body,
    "}",
    "",
  ].join("\n");
  const bindings = { x: "x", y: "y" };
  return defineOp<Record<string, never>>({
    name,
    inputs: { x: {} },
    outputs: ["y"],
    gradients: [],
    cases: [],
    malformed: [],
    infer: (context) => ({ y: context.spec("x") }),
    forward: () => [
      { kernel: { name, code }, entry: "forward", bindings, params: {}, constants: { GROUP: 4 }, workgroups: 1 },
    ],
    flops: () => 1,
    reference: () => ({}),
  });
}

async function run(op: Op): Promise<Float32Array | undefined> {
  const recorder = new Recorder();
  const y = recorder.apply(op, { x: recorder.input("x", [4]) }, {});
  const made = plan(recorder, { outputs: { y }, limits: device.limits });
  using executor = new Executor(device);
  await executor.hold([made]);
  const store = {
    lease: (name: string): never => {
      throw new Error(name);
    },
  };
  return (await executor.run(made, store, { x: Float32Array.of(1, 2, 3, 4) })).get("y");
}

it("names file, line, column and three lines of a kernel that does not compile, beside kernels that do", async () => {
  const [good, bad] = [
    twice("doubles", "  y[local.x] = 2.0 * x[local.x];"),
    twice("doubles_wrongly", "  y[local.x] = 2.0 * z[local.x];"),
  ];
  // At once: neither may be judged by the other's errors.
  const [first, failure, second] = await Promise.allSettled([run(good), run(bad), run(good)]);
  for (const result of [first, second]) {
    expect(result).toEqual({ status: "fulfilled", value: Float32Array.of(2, 4, 6, 8) });
  }
  const error = failure.status === "rejected" ? (failure.reason as KernelError) : undefined;
  expect(error).toBeInstanceOf(KernelError);
  const lines = error?.fact.split("\n") ?? [];
  expect(lines[0]).toMatch(/^kernels\/doubles_wrongly\.wgsl:7:22: .*'?z'?/);
  expect(lines.slice(1)).toEqual([
    "6 | fn forward(@builtin(local_invocation_id) local: vec3u) {",
    "7 |   y[local.x] = 2.0 * z[local.x];",
    "  |                      ^",
    "8 | }",
  ]);
});
