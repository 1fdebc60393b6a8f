import kernel from "../../kernels/rope.wgsl";
import { ShapeError } from "../base/errors";
import { columns, elements, formatShape, rows, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext } from "../op/declaration";
import { elementKernel, elementWorkgroups } from "../op/element";
import { bindRows, rowRanges } from "../op/launch";
import type { Absorption, Launch } from "../op/launch";
import { accumulateParam } from "./shared/elementwise";

export type RopeAttributes = {
  readonly heads: number;
};

function sizes(context: InferContext<RopeAttributes>) {
  const { shape } = context.spec("x");
  const width = columns(shape);
  const [length = 0, , half = 0] = context.spec("table").shape;
  return { length, half, width, head: width / context.attributes.heads, rows: rows(shape) };
}

/** A rotation in place by the same table just before, by entry: of queries before that of keys, or the other way round. */
const OTHER_ROTATION: Readonly<Record<string, Absorption>> = {
  forward_in_place: rotation("forward_in_place", "y", "forward_both_in_place"),
  grad_x_in_place: rotation("grad_x_in_place", "dx", "grad_x_both_in_place"),
};

function rotation(entry: string, variable: string, by: string): Absorption {
  const variables = { [variable]: "other", table: "table" };
  return { before: [{ kernel: kernel.name, entry, variables, params: "other_params" }], by };
}

function launches(entry: string, tensors: readonly string[], context: LaunchContext<RopeAttributes>): Launch[] {
  const { heads } = context.attributes;
  const { length, half, head, width, rows: rowCount } = sizes(context);
  const element = elementKernel(kernel, [half, head]);
  const { WIDTH } = element.constants;
  // In place, elements that are not rotated need no invocation.
  const headUnits = context.inPlace ? half : head - half;
  return rowRanges(rowCount, [width * 4], context.limits).map((range) => {
    const units = range.count * heads * headUnits;
    return {
      ...element,
      entry,
      bindings: {
        ...Object.fromEntries(tensors.map((slot) => [slot, bindRows(slot, range, width * 4)])),
        table: "table",
      },
      params: {
        units: units / WIDTH,
        half: half / WIDTH,
        head: head / WIDTH,
        head_units: headUnits / WIDTH,
        heads,
        length,
        row0: range.start,
        ...accumulateParam(context),
      },
      workgroups: elementWorkgroups(units, element),
      absorbs: OTHER_ROTATION[entry] ? [OTHER_ROTATION[entry]] : [],
    };
  });
}

/**
 * Rotary position embedding (Su et al. 2021, eq. 34). Element i < h of a head is paired with element i + h, as in Hugging
 * Face's LLaMA; elements from 2 h on stay as they are. x [b, t, heads * d], table [t, 2, h] of cosines and sines, or
 * [b * t, 2, h] if positions differ between texts, with 2 h <= d; y [shape of x].
 */
export const rope = defineOp({
  name: "rope",
  inputs: { x: { gradient: true }, table: {} },
  outputs: ["y"],
  infer(context: InferContext<RopeAttributes>) {
    const { shape } = context.spec("x");
    const table = context.spec("table").shape;
    const { half, head, length, rows: rowCount } = sizes(context);
    const fits = sameShape(table, [length, 2, half]) && (length === shape[1] || length === rowCount);
    if (shape.length !== 3 || !Number.isInteger(head) || half < 1 || 2 * half > head || !fits) {
      throw new ShapeError(
        `rope: the table ${formatShape(table)} does not fit ${context.attributes.heads} heads of x ${formatShape(shape)}.`,
        "Pass x [b, t, heads * d], and a table [t, 2, h] with 2 h of at most d.",
      );
    }
    return { y: { shape, dtype: "f32" } };
  },
  forward: (context) =>
    context.inPlace ? launches("forward_in_place", ["y"], context) : launches("forward", ["x", "y"], context),
  overwrites: "x",
  gradients: [
    {
      wrt: ["x"],
      reads: () => ["table"],
      accumulates: true,
      overwrites: "dy",
      launches: (context) =>
        context.inPlace ? launches("grad_x_in_place", ["dx"], context) : launches("grad_x", ["dy", "dx"], context),
      flops: (context) => 3 * elements(context.spec("x").shape),
    },
  ],
  flops: (context) => 3 * elements(context.spec("x").shape),
});
