// An op of one's own, x^2 for positive x (squared ReLU): its kernel, its gradient, what is wrong with it, and how fast it is.
//
//   node examples/engine/own-op.mjs
import { createEngine, defineOp } from "safetape/engine";
import { benchOp, checkOp } from "safetape/testing";

const code = /* wgsl */ `
struct Params { count: u32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) n: vec3u, @builtin(local_invocation_id) l: vec3u) {
  let i = (w.y * n.x + w.x) * 64u + l.x;
  if (i < params.count) { y[i] = max(x[i], 0.0) * x[i]; }
}

@compute @workgroup_size(64)
fn grad_x(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) n: vec3u, @builtin(local_invocation_id) l: vec3u) {
  let i = (w.y * n.x + w.x) * 64u + l.x;
  if (i < params.count) { dx[i] = 2.0 * max(x[i], 0.0) * dy[i]; }
}
`;
const count = (context) => context.spec("x").shape.reduce((product, size) => product * size, 1);
const launch = (context, entry, slots) => {
  const bindings = Object.fromEntries(slots.map((slot) => [slot, slot]));
  const workgroups = Math.ceil(count(context) / 64);
  return [{ kernel: { name: "squared_relu", code }, entry, bindings, params: { count: count(context) }, workgroups }];
};
const gradX = (context) => launch(context, "grad_x", ["x", "dy", "dx"]);
export const squaredRelu = defineOp({
  name: "squared_relu",
  inputs: { x: { gradient: true } },
  outputs: ["y"],
  infer: (context) => ({ y: { shape: context.spec("x").shape, dtype: "f32" } }),
  forward: (context) => launch(context, "forward", ["x", "y"]),
  // The gradient reads x, so that a training step keeps x as long as this gradient is wanted.
  gradients: [{ wrt: ["x"], reads: () => ["x"], launches: gradX, flops: count }],
  flops: (context) => 2 * count(context),
  reference: ({ x }) => ({ y: { shape: x.shape, data: x.data.map((v) => Math.max(v, 0) * v) } }),
  cases: [
    { name: "odd size", attributes: {}, inputs: { x: { shape: [3, 5] } } },
    { name: "several workgroups", attributes: {}, inputs: { x: { shape: [41, 50] } }, bench: true },
  ],
});

const engine = await createEngine();
const problems = await checkOp(engine, squaredRelu);
console.log(problems.length === 0 ? "forward and gradient agree with float64" : problems.join("\n"));
for (const { case: name, pass, ms, clock, gigabytesPerSecond: rate } of await benchOp(engine, squaredRelu)) {
  console.log(`${name}, ${pass}: ${ms.toFixed(3)} ms by the ${clock}'s clock, ${rate.toFixed(2)} GB/s`);
}
engine.dispose();
