import { elements } from "../../src/base/shape";
import { defineOp } from "../../src/op/declaration";
import type { LaunchContext, NoAttributes, Op } from "../../src/op/declaration";
import { bindRows, rowRanges } from "../../src/op/launch";
import type { Launch, RowRange } from "../../src/op/launch";

// Ops that are wrong in one way each. All compute y = 2 x of a vector, forward by one entry that can be cut into ranges.

const head = `
struct Params {
  count: u32,
}
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;
`;
const entry = (name: string, body: string): string => `
@compute @workgroup_size(64)
fn ${name}(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_id) local: vec3u,
) {
  let i = (group.y * groups.x + group.x) * 64u + local.x;
  if i < params.count { ${body} }
}
`;
const code =
  head +
  entry("twice", "y[i] = 2.0 * x[i];") +
  entry("thrice", "y[i] = 3.0 * x[i];") +
  entry("twice_in_place", "y[i] = 2.0 * y[i];") +
  entry("once_in_place", "y[i] = 1.0 * y[i];");
const kernel = { name: "wrong_op", code };

const countOf = (context: LaunchContext): number => elements(context.spec("x").shape);

function launch(name: string, bindings: Launch["bindings"], count: number): Launch {
  return { kernel, entry: name, bindings, params: { count }, workgroups: Math.ceil(count / 64) };
}

/** @param sourceOf the rows that are read for those that are written. */
const ranges = (
  context: LaunchContext,
  [source, target]: readonly [string, string],
  sourceOf = (range: RowRange): RowRange => range,
): Launch[] =>
  rowRanges(countOf(context), [4, 4], context.limits).map((range) =>
    launch("twice", { x: bindRows(source, sourceOf(range), 4), y: bindRows(target, range, 4) }, range.count),
  );

/** Without a reference and cases. */
export const untested = defineOp({
  name: "twice",
  inputs: { x: { gradient: true } },
  outputs: ["y"],
  infer: (context) => ({ y: context.spec("x") }),
  forward: (context) => ranges(context, ["x", "y"]),
  gradients: [{ wrt: ["x"], reads: () => [], launches: (context) => ranges(context, ["dy", "dx"]) }],
  flops: (context) => elements(context.spec("x").shape),
});

const base: Op<NoAttributes> = {
  ...untested,
  reference: ({ x }) => ({ y: { shape: x!.shape, data: x!.data.map((value) => 2 * value) } }),
  cases: [
    { name: "a vector", attributes: {}, inputs: { x: { shape: [100] } } },
    { name: "more than a binding", attributes: {}, inputs: { x: { shape: [6000] } } },
  ],
};

export const right = defineOp(base);

export const wrongGradient = defineOp({
  ...base,
  gradients: [
    { wrt: ["x"], reads: () => [], launches: (context) => [launch("thrice", { x: "dy", y: "dx" }, countOf(context))] },
  ],
});

/** Each part of y is computed from the beginning of x. */
export const wrongRanges = defineOp({
  ...base,
  forward: (context) => ranges(context, ["x", "y"], ({ count }) => ({ start: 0, count })),
});

/** The gradient is wrong where it takes the place of dy, as it does where x is an activation. */
export const wrongInPlace = defineOp({
  ...base,
  gradients: [
    {
      wrt: ["x"],
      reads: () => [],
      overwrites: "dy",
      launches: (context) =>
        context.inPlace ? [launch("once_in_place", { y: "dx" }, countOf(context))] : ranges(context, ["dy", "dx"]),
    },
  ],
});

export const wrongReference = defineOp({
  ...base,
  reference: ({ x }) => ({ y: { shape: x!.shape, data: x!.data.map((value) => 3 * value) } }),
});
