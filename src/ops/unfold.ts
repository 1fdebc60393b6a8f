import kernel from "../../kernels/unfold.wgsl";
import { ConfigError, ShapeError } from "../base/errors";
import { elements, formatShape } from "../base/shape";
import type { Shape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext } from "../op/declaration";
import { bindRows, rowRanges } from "../op/launch";
import type { Launch } from "../op/launch";

const GROUP = 64;

/** Pairs are of the vertical and the horizontal axis. */
export type UnfoldAttributes = {
  /** Rows and columns of the kernel. */
  readonly kernel: readonly number[];
  readonly stride: readonly number[];
  readonly padding: readonly number[];
  readonly dilation: readonly number[];
  /** What is read beyond the edges. */
  readonly outside: number;
};

/** Positions of a kernel in an image [height, width]. @throws ShapeError or ConfigError where there is none. */
export function positions(image: Shape, { kernel: size, stride, padding, dilation }: UnfoldAttributes): number[] {
  const isPair = (values: readonly number[], least: number): boolean =>
    values.length === 2 && values.every((value) => Number.isInteger(value) && value >= least);
  if (![size, stride, dilation].every((pair) => isPair(pair, 1)) || !isPair(padding, 0)) {
    throw new ConfigError(
      `unfold: kernel ${formatShape(size)}, stride ${formatShape(stride)}, padding ${formatShape(padding)} and dilation ${formatShape(dilation)} are not sizes.`,
      "Pass two whole numbers each, of at least 1, or 0 for the padding.",
    );
  }
  const counts = [0, 1].map((axis) => {
    const reach = dilation[axis]! * (size[axis]! - 1) + 1;
    return Math.floor((image[axis]! + 2 * padding[axis]! - reach) / stride[axis]!) + 1;
  });
  if (counts.every((count) => count >= 1)) return counts;
  throw new ShapeError(
    `unfold: a kernel of ${formatShape(size)} with dilation ${formatShape(dilation)} does not fit an image of ${formatShape(image)} with padding ${formatShape(padding)}.`,
    "Pass a smaller kernel or more padding.",
  );
}

function launches(entry: "forward" | "grad_x", context: LaunchContext<UnfoldAttributes>): Launch[] {
  const { attributes, limits } = context;
  const x = context.spec("x").shape;
  const [outHeight = 1, outWidth = 1] = positions(x.slice(2), attributes);
  const counts = { x: elements(x), y: elements(context.spec("y").shape) };
  const [read, written] = entry === "forward" ? (["x", "y"] as const) : (["y", "x"] as const);
  const slots = entry === "forward" ? { read: "x", written: "y" } : { read: "dy", written: "dx" };
  return rowRanges(counts[written], [4], limits).flatMap((target) =>
    rowRanges(counts[read], [4], limits).map((source, index) => ({
      kernel,
      entry,
      bindings: {
        [slots.read]: bindRows(slots.read, source, 4),
        [slots.written]: bindRows(slots.written, target, 4),
      },
      params: {
        first: target.start,
        count: target.count,
        read_first: source.start,
        read_count: source.count,
        height: x[2]!,
        width: x[3]!,
        kernel_height: attributes.kernel[0]!,
        kernel_width: attributes.kernel[1]!,
        out_height: outHeight,
        out_width: outWidth,
        stride_y: attributes.stride[0]!,
        stride_x: attributes.stride[1]!,
        padding_y: attributes.padding[0]!,
        padding_x: attributes.padding[1]!,
        dilation_y: attributes.dilation[0]!,
        dilation_x: attributes.dilation[1]!,
        outside: attributes.outside,
        accumulate: context.accumulate || index > 0 ? 1 : 0,
      },
      workgroups: Math.ceil(target.count / GROUP),
    })),
  );
}

/**
 * The patches that a kernel sees at each of its positions, as torch.nn.Unfold ("im2col"), with an axis for channels. x [n, c, h, w], y
 * [n, c, rows * columns of the kernel, positions]. Its gradient sums patches back ("col2im").
 */
export const unfold = defineOp({
  name: "unfold",
  inputs: { x: { gradient: true } },
  outputs: ["y"],
  infer(context: InferContext<UnfoldAttributes>) {
    const { shape } = context.spec("x");
    if (shape.length !== 4) {
      throw new ShapeError(`unfold: x ${formatShape(shape)} is not a batch of images.`, "Pass x [n, c, h, w].");
    }
    const [rows = 1, columns = 1] = positions(shape.slice(2), context.attributes);
    return { y: { shape: [...shape.slice(0, 2), elements(context.attributes.kernel), rows * columns], dtype: "f32" } };
  },
  forward: (context) => launches("forward", context),
  gradients: [
    {
      wrt: ["x"],
      reads: () => [],
      accumulates: true,
      launches: (context) => launches("grad_x", context),
      flops: (context) => elements(context.spec("y").shape),
    },
  ],
  flops: () => 0,
});
