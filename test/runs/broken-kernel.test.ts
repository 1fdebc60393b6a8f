import { expect, it } from "vitest";
import { KernelError } from "safetape/engine";
import { defineOp } from "../../src/op/declaration";
import type { Op } from "../../src/op/declaration";
import { Executor } from "../../src/run/executor";
import { plan } from "../../src/tape/plan";
import { Recorder } from "../../src/tape/tape";
import { useDevice } from "../support/engine";
import { failure } from "../support/failure";

const device = await useDevice();

/** y = 2 x, by a kernel with this body. */
function doubling(name: string, body: string): Op {
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
  return defineOp({
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
  const planned = plan(recorder, { outputs: { y }, limits: device.limits });
  using executor = new Executor(device);
  await executor.hold([planned]);
  const store = { lease: (name: string) => expect.unreachable(`This plan has no tensor ${name}.`) };
  return (await executor.run(planned, store, { x: Float32Array.of(1, 2, 3, 4) })).get("y");
}

it("a kernel that does not compile is reported with file, line, column and the lines around, and no other one is", async () => {
  const good = doubling("doubles", "  y[local.x] = 2.0 * x[local.x];");
  const bad = doubling("doubles_wrongly", "  y[local.x] = 2.0 * z[local.x];");
  // At the same time: no kernel may be blamed for another one's errors.
  const [first, error, second] = await Promise.all([run(good), failure(run(bad), KernelError), run(good)]);
  for (const doubled of [first, second]) expect(doubled).toEqual(Float32Array.of(2, 4, 6, 8));
  const lines = error.fact.split("\n");
  expect(lines[0]).toMatch(/^kernels\/doubles_wrongly\.wgsl:7:22: .*'?z'?/);
  expect(lines.slice(1)).toEqual([
    "6 | fn forward(@builtin(local_invocation_id) local: vec3u) {",
    "7 |   y[local.x] = 2.0 * z[local.x];",
    "  |                      ^",
    "8 | }",
  ]);
});
