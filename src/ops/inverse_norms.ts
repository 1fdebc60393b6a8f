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
import { at, filled, input } from "./shared/reference";

export type InverseNormsAttributes = LinearAttributes & {
  /** Factor of B A. */
  readonly scale: number;
};

type Context = InferContext<InverseNormsAttributes>;

/** What a binding of vectors holds a whole number of. */
const VECTOR_BYTES = 16;

/** A norm below this counts as this. */
const LEAST_NORM = 1e-15;

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
export const inverseNorms = defineOp<InverseNormsAttributes>({
  name: "inverse_norms",
  inputs: { w: { formats: WEIGHT_FORMATS }, a: {}, b: {} },
  outputs: ["y"],
  infer(context) {
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
  reference(tensors, { layout, scale }) {
    const [w, a, b] = [input(tensors, "w"), input(tensors, "a"), input(tensors, "b")];
    const [rank = 0, inputs = 0] = a.shape;
    const [outputs = 0] = b.shape;
    return {
      y: filled([outputs], (o) => {
        let squares = 0;
        for (let i = 0; i < inputs; i++) {
          let value = at(w, layout === "out_in" ? o * inputs + i : i * outputs + o);
          for (let r = 0; r < rank; r++) value += scale * at(b, o * rank + r) * at(a, r * inputs + i);
          squares += value ** 2;
        }
        return 1 / Math.max(Math.sqrt(squares), LEAST_NORM);
      }),
    };
  },
  cases: [
    ...WEIGHT_FORMATS.flatMap((format) => [
      {
        name: `weight in ${format}, out_in, blocks that are not full`,
        attributes: { layout: "out_in", scale: 0.5 },
        inputs: { w: { shape: [12, 132], format }, a: { shape: [3, 132] }, b: { shape: [12, 3] } },
      } as const,
      {
        name: `weight in ${format}, in_out, words that are not full`,
        attributes: { layout: "in_out", scale: 2 },
        inputs: { w: { shape: [130, 9], format }, a: { shape: [2, 130] }, b: { shape: [9, 2] } },
      } as const,
    ]),
    {
      name: "an odd number of outputs with four axes, single numbers",
      attributes: { layout: "out_in", scale: 1.5 },
      inputs: { w: { shape: [7, 3, 5, 5] }, a: { shape: [4, 75] }, b: { shape: [7, 4] } },
    },
    {
      name: "outputs without weights",
      attributes: { layout: "out_in", scale: 1 },
      inputs: {
        w: { shape: [2, 4], values: [0, 0, 0, 0, 3, 0, -4, 0] },
        a: { shape: [1, 4] },
        b: { shape: [2, 1], values: [0, 0] },
      },
    },
    {
      name: "one output, one input",
      attributes: { layout: "out_in", scale: 1 },
      inputs: { w: { shape: [1, 1] }, a: { shape: [1, 1] }, b: { shape: [1, 1] } },
    },
    {
      name: "outputs that can be split over bindings",
      attributes: { layout: "out_in", scale: 1 },
      inputs: { w: { shape: [192, 64] }, a: { shape: [4, 64] }, b: { shape: [192, 4] } },
    },
    {
      name: "inputs that can be split over bindings",
      attributes: { layout: "in_out", scale: 1 },
      inputs: { w: { shape: [192, 64] }, a: { shape: [4, 192] }, b: { shape: [64, 4] } },
    },
    ...(["f32", "nf4"] as const).map((format) => ({
      name: `LLaMA 3.2 1B's query in ${format}, rank 8`,
      attributes: { layout: "out_in" as const, scale: 1 },
      inputs: { w: { shape: [2048, 2048], format }, a: { shape: [8, 2048] }, b: { shape: [2048, 8] } },
      bench: true,
    })),
  ],
  malformed: [
    {
      name: "a B of another rank",
      attributes: { layout: "out_in", scale: 1 },
      inputs: {
        w: { shape: [4, 6], dtype: "f32" },
        a: { shape: [2, 6], dtype: "f32" },
        b: { shape: [4, 3], dtype: "f32" },
      },
      message: /b is \[4, 3\]; w \[4, 6\] needs \[4, 2\]/,
    },
    {
      name: "an A that does not fit the weight's layout",
      attributes: { layout: "in_out", scale: 1 },
      inputs: {
        w: { shape: [4, 6], dtype: "f32" },
        a: { shape: [2, 6], dtype: "f32" },
        b: { shape: [6, 2], dtype: "f32" },
      },
      message: /a is \[2, 6\]; w \[4, 6\] needs \[2, 4\]/,
    },
  ],
});

const all = (count: number) => ({ start: 0, count });
