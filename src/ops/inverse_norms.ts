import kernel from "../../kernels/inverse_norms.wgsl";
import elementVectors from "../../kernels/lib/element_vec4.wgsl";
import weightVectors from "../../kernels/lib/weight_element_vec4.wgsl";
import { ShapeError } from "../base/errors";
import { rowBytes, WEIGHT_FORMATS } from "../base/packed";
import { elements, formatShape, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext } from "../op/declaration";
import { substituting } from "../op/kernel";
import { bindRows, rowRanges } from "../op/launch";
import type { LinearAttributes } from "./linear";
import { storedRow, weightFormat } from "./shared/product";

export type InverseNormsAttributes = LinearAttributes & {
  /** Factor of B A. */
  readonly scale: number;
};

type Context = InferContext<InverseNormsAttributes>;

/** What a binding of vectors holds a whole number of. */
const VECTOR_BYTES = 16;

const onVectors = substituting(kernel, { "lib/element": elementVectors, "lib/weight_element": weightVectors });

function sizes(context: Context): { outputs: number; inputs: number; rank: number } {
  const { shape } = context.spec("w");
  const [first = 0] = shape;
  const rest = elements(shape) / first;
  const [outputs, inputs] = context.attributes.layout === "out_in" ? [first, rest] : [rest, first];
  return { outputs, inputs, rank: context.spec("a").shape[0] ?? 0 };
}

/**
 * y = 1 / ||w + scale B A||, the norm being that of each output's weights (DoRA, Liu et al. 2024, section 4.3, where it is a
 * constant of the backward pass). The sum is not formed. w [out, in] (more axes are flattened) or [in, out] by `layout`, a
 * [r, in], b [out, r]; y [out].
 */
export const inverseNorms = defineOp({
  name: "inverse_norms",
  inputs: { w: { formats: WEIGHT_FORMATS }, a: {}, b: {} },
  outputs: ["y"],
  infer(context: Context) {
    const { outputs, inputs, rank } = sizes(context);
    for (const [slot, expected] of Object.entries({ a: [rank, inputs], b: [outputs, rank] })) {
      const { shape } = context.spec(slot);
      if (sameShape(shape, expected)) continue;
      throw new ShapeError(
        `inverse_norms: ${slot} is ${formatShape(shape)}; w ${formatShape(context.spec("w").shape)} needs ${formatShape(expected)}.`,
        "Pass a of shape [r, in] and b of shape [out, r].",
      );
    }
    return { y: { shape: [outputs], dtype: "f32" } };
  },
  forward(context) {
    const { outputs, inputs, rank } = sizes(context);
    const { layout, scale } = context.attributes;
    const format = weightFormat(context.spec("w").dtype);
    const isByOutputs = layout === "out_in";
    const [rows, columns] = isByOutputs ? [outputs, inputs] : [inputs, outputs];
    const bytes = rowBytes(format, columns);
    return rowRanges(rows, [bytes], context.limits).map((range) => {
      const hasVectors = isByOutputs && inputs % 4 === 0 && (range.count * bytes) % VECTOR_BYTES === 0;
      const bound = isByOutputs ? { outputs: range, inputs: all(inputs) } : { outputs: all(outputs), inputs: range };
      return {
        kernel: hasVectors ? onVectors : kernel,
        entry: "forward",
        bindings: { a: "a", b: bindRows("w", range, bytes), l: "b", y: "y" },
        params: {
          outputs: bound.outputs.count,
          output0: bound.outputs.start,
          inputs: bound.inputs.count,
          input0: bound.inputs.start,
          all_inputs: inputs,
          rank,
          scale,
          is_first: bound.inputs.start === 0 ? 1 : 0,
          is_last: bound.inputs.start + bound.inputs.count === inputs ? 1 : 0,
          b_start: 0,
          b_row: isByOutputs ? 1 : outputs,
          b_column: isByOutputs ? inputs : 1,
          ...storedRow({ slot: "w", transposed: isByOutputs, format }, columns),
        },
        constants: { FORMAT: WEIGHT_FORMATS.indexOf(format), WIDTH: hasVectors ? 4 : 1 },
        workgroups: Math.ceil(bound.outputs.count / 2),
      };
    });
  },
  gradients: [],
  flops: (context) => 2 * (sizes(context).rank + 2) * elements(context.spec("w").shape),
});

const all = (count: number) => ({ start: 0, count });
