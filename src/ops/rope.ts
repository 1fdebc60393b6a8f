import kernel from "../../kernels/rope.wgsl";
import { ShapeError } from "../base/errors";
import { columns, elements, formatShape, rows, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext } from "../op/declaration";
import { elementKernel, elementWorkgroups } from "../op/element";
import { bindRows, rowRanges } from "../op/launch";
import type { Absorption, Launch } from "../op/launch";
import { accumulateParam } from "./shared/elementwise";
import { at, filled, input } from "./shared/reference";

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
export const rope = defineOp<RopeAttributes>({
  name: "rope",
  inputs: { x: { gradient: true }, table: {} },
  outputs: ["y"],
  infer(context) {
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
  reference(inputs, { heads }) {
    const [x, table] = [input(inputs, "x"), input(inputs, "table")];
    const width = columns(x.shape);
    const head = width / heads;
    const [length = 0, , half = 0] = table.shape;
    return {
      y: filled(x.shape, (index) => {
        const within = index % head;
        if (within >= 2 * half) return at(x, index);
        const position = Math.floor(index / width) % length;
        const entry = 2 * position * half + (within % half);
        const [cosine, sine] = [at(table, entry), at(table, entry + half)];
        const partner = within < half ? -at(x, index + half) : at(x, index - half);
        return at(x, index) * cosine + partner * sine;
      }),
    };
  },
  cases: [
    {
      name: "odd length, three heads",
      attributes: { heads: 3 },
      inputs: { x: { shape: [2, 5, 12] }, table: { shape: [5, 2, 2] } },
    },
    {
      name: "positions that differ between texts",
      attributes: { heads: 2 },
      inputs: { x: { shape: [3, 2, 8] }, table: { shape: [6, 2, 2] } },
    },
    ...[8, 10].map((head) => ({
      name: `the first ${head - 4} of ${head} elements, the rest as they are`,
      attributes: { heads: 3 },
      inputs: { x: { shape: [2, 5, 3 * head] }, table: { shape: [5, 2, (head - 4) / 2] } },
    })),
    {
      name: "the first half of a head of vectors",
      attributes: { heads: 2 },
      inputs: { x: { shape: [2, 70, 32] }, table: { shape: [70, 2, 4] } },
    },
    { name: "one pair", attributes: { heads: 1 }, inputs: { x: { shape: [1, 1, 2] }, table: { shape: [1, 2, 1] } } },
    {
      name: "rows that can be split over bindings",
      attributes: { heads: 2 },
      inputs: { x: { shape: [4, 64, 16] }, table: { shape: [64, 2, 4] } },
    },
    {
      name: "queries of LLaMA-2 7B, 128 tokens",
      attributes: { heads: 32 },
      inputs: { x: { shape: [1, 128, 4096] }, table: { shape: [128, 2, 64] } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "a table of another length",
      attributes: { heads: 1 },
      inputs: { x: { shape: [1, 3, 4], dtype: "f32" }, table: { shape: [2, 2, 2], dtype: "f32" } },
      message: /table \[2, 2, 2\] does not fit 1 heads of x \[1, 3, 4\]/,
    },
  ],
});
