import type { NoAttributes, TestedOp } from "../../src/op/declaration";
import type { Kernel } from "../../src/op/kernel";
import type { Variant } from "../../src/op/launch";

/** y = FACTOR x and dx = GRADIENT dy. */
const code = `
const FACTOR: u32 = 2u;
const GRADIENT: u32 = 2u;
struct Params {
  count: u32,
}
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;
@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3u) {
  if id.x < params.count { y[id.x] = f32(FACTOR) * x[id.x]; }
}
@compute @workgroup_size(64)
fn grad_x(@builtin(global_invocation_id) id: vec3u) {
  if id.x < params.count { dx[id.x] = f32(GRADIENT) * dy[id.x]; }
}
`;

const kernel: Kernel = { name: "double", code };
/** Elements of x. */
export const COUNT = 100;

/** A variant of both entries by these factors, on GPUs the usual one. */
export const doubleVariant = (name: string, constants: Readonly<Record<string, number>>, text = code): Variant => ({
  name,
  kernel: { name: `double_${name}`, code: text },
  constants,
  workgroups: Math.ceil(COUNT / 64),
  flops: 1e7,
  gpu: true,
});

/** An op y = 2 x whose portable gradient multiplies by `gradient`, and that has these variants. */
export const doubleOp = (variants: readonly Variant[], gradient = 2): TestedOp<NoAttributes> => ({
  name: "double",
  inputs: { x: { gradient: true } },
  outputs: ["y"],
  infer: (context) => ({ y: context.spec("x") }),
  forward: () => [
    {
      kernel,
      entry: "forward",
      bindings: { x: "x", y: "y" },
      params: { count: COUNT },
      workgroups: Math.ceil(COUNT / 64),
      variants,
    },
  ],
  gradients: [
    {
      wrt: ["x"],
      reads: () => [],
      launches: () => [
        {
          kernel,
          entry: "grad_x",
          bindings: { dy: "dy", dx: "dx" },
          params: { count: COUNT },
          constants: { GRADIENT: gradient },
          workgroups: Math.ceil(COUNT / 64),
        },
      ],
    },
  ],
  flops: () => COUNT,
  reference: ({ x }) => ({ y: { shape: x!.shape, data: x!.data.map((value) => 2 * value) } }),
  cases: [{ name: "a vector", attributes: {}, inputs: { x: { shape: [COUNT] } } }],
  malformed: [],
});
