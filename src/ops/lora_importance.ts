import kernel from "../../kernels/lora_importance.wgsl";
import { ShapeError } from "../base/errors";
import { elements, formatShape, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext } from "../op/declaration";
import { vectorVariants } from "../op/element";
import { bindRows, rowRanges } from "../op/launch";

export type LoraImportanceAttributes = {
  /** How w is stored: [out, in] or [in, out]. */
  readonly layout: "out_in" | "in_out";
  /** Factor of B A in the LoRA weight. */
  readonly scale: number;
  /** Whether y has a sum for each output or for each input. */
  readonly per: "out" | "in";
};

type Context = InferContext<LoraImportanceAttributes>;

function sizes(context: Context): { rows: number; columns: number; inputs: number; outputs: number; rank: number } {
  const [rows = 0, columns = 0] = context.spec("w").shape;
  const [outputs, inputs] = context.attributes.layout === "out_in" ? [rows, columns] : [columns, rows];
  return { rows, columns, inputs, outputs, rank: context.spec("a").shape[0] ?? 0 };
}

const count = (context: Context): number => {
  const { outputs, inputs } = sizes(context);
  return context.attributes.per === "out" ? outputs : inputs;
};

/**
 * Importance of the outputs or inputs of a frozen weight, estimated from the gradients of its LoRA (LoRAPrune, Zhang et
 * al. 2023): the sum of |(dB A + B dA - dB dA) (w + scale B A)| over the other axis. w [out, in] or [in, out], a and da
 * [r, in], b and db [out, r]; y [out] or [in].
 */
export const loraImportance = defineOp({
  name: "lora_importance",
  inputs: { w: {}, a: {}, b: {}, da: {}, db: {} },
  outputs: ["y"],
  infer(context: Context) {
    const { inputs, outputs, rank } = sizes(context);
    const expectedShapes = { a: [rank, inputs], da: [rank, inputs], b: [outputs, rank], db: [outputs, rank] };
    for (const [slot, expected] of Object.entries(expectedShapes)) {
      const { shape } = context.spec(slot);
      if (sameShape(shape, expected)) continue;
      throw new ShapeError(
        `lora_importance: ${slot} is ${formatShape(shape)}; w ${formatShape(context.spec("w").shape)} needs ${formatShape(expected)}.`,
        "Pass A [r, in] and B [out, r] with gradients of their shapes.",
      );
    }
    return { y: { shape: [count(context)], dtype: "f32" } };
  },
  forward(context) {
    const { rows, columns, inputs, rank } = sizes(context);
    const { layout, scale, per } = context.attributes;
    const isTransposed = layout === "in_out";
    const byColumns = (per === "out") === isTransposed;
    return rowRanges(rows, [columns * 4], context.limits).map((range) => ({
      kernel,
      entry: "forward",
      bindings: { w: bindRows("w", range, columns * 4), a: "a", b: "b", da: "da", db: "db", y: "y" },
      params: {
        count: range.count,
        row0: range.start,
        columns,
        inputs,
        rank,
        scale,
        transposed: isTransposed ? 1 : 0,
        by_columns: byColumns ? 1 : 0,
        accumulate: byColumns && range.start > 0 ? 1 : 0,
      },
      workgroups: byColumns ? columns : range.count,
      variants: isTransposed
        ? []
        : vectorVariants(kernel, [columns], {
            workgroups: byColumns ? columns / 4 : range.count,
            flops: (8 * rank + 4) * range.count * columns,
          }),
    }));
  },
  gradients: [],
  flops: (context) => (8 * sizes(context).rank + 4) * elements(context.spec("w").shape),
});
