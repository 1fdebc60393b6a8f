import kernel from "../../kernels/crop.wgsl";
import { ShapeError } from "../base/errors";
import { columns, elements, formatShape, rows } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext } from "../op/declaration";
import { elementKernel, elementWorkgroups } from "../op/element";
import type { Launch } from "../op/launch";

export type CropAttributes = {
  /** Rows of y. */
  readonly rows: number;
  /** Columns of y. */
  readonly columns: number;
};

function launches(
  entry: string,
  from: string,
  to: string,
  target: string,
  context: LaunchContext<CropAttributes>,
): Launch[] {
  const { rows: height, columns: width } = context.attributes;
  const count = elements(context.spec(target).shape);
  const xWidth = columns(context.spec("x").shape);
  const element = elementKernel(kernel, [width, xWidth]);
  const { WIDTH } = element.constants;
  return [
    {
      ...element,
      entry,
      bindings: { [from]: from, [to]: to },
      params: {
        count: count / WIDTH,
        rows: height,
        columns: width / WIDTH,
        x_columns: xWidth / WIDTH,
        accumulate: context.accumulate ? 1 : 0,
      },
      workgroups: elementWorkgroups(count, element),
    },
  ];
}

/**
 * The first rows and columns of a matrix. VeRA cuts its shared matrices to the size of each projection.
 * x [m, n], y [rows, columns].
 */
export const crop = defineOp({
  name: "crop",
  inputs: { x: { gradient: true } },
  outputs: ["y"],
  infer(context: InferContext<CropAttributes>) {
    const { shape } = context.spec("x");
    const { rows: height, columns: width } = context.attributes;
    if (shape.length !== 2 || height < 1 || width < 1 || height > rows(shape) || width > columns(shape)) {
      throw new ShapeError(
        `crop: ${height} x ${width} cannot be cut from x ${formatShape(shape)}.`,
        "Pass a matrix with at least as many rows and columns.",
      );
    }
    return { y: { shape: [height, width], dtype: "f32" } };
  },
  forward: (context) => launches("forward", "x", "y", "y", context),
  gradients: [
    {
      wrt: ["x"],
      reads: () => [],
      accumulates: true,
      launches: (context) => launches("grad_x", "dy", "dx", "x", context),
    },
  ],
  flops: () => 0,
});
