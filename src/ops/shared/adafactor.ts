import kernel from "../../../kernels/adafactor.wgsl";
import { columns, elements } from "../../base/shape";
import type { InferContext, Temp } from "../../op/declaration";
import { elementKernel, elementWorkgroups } from "../../op/element";
import type { Launch } from "../../op/launch";

export type AdafactorAttributes = {
  /** Decoupled weight decay: each step multiplies the parameter by 1 - learningRate * weightDecay. */
  readonly weightDecay: number;
  /** Lower bound of the mean of the rows' moments. */
  readonly eps1: number;
  /** Lower bound of the parameter's root mean square as a factor of the step. */
  readonly eps2: number;
  /** Root mean square from which a change is scaled down. */
  readonly threshold: number;
  /** Whether steps are relative to the parameter's root mean square. */
  readonly scaleParameter: boolean;
};

/** Number of elements of the `hyper` tensor: rate of the step, rate of the moments, maximum norm or 0, learning rate. */
export const ADAFACTOR_HYPER_SIZE = 4;

const SMALLEST_NORMAL = 1.2e-38;

/** Lower bound of second moments, which f32 can hold: a gradient of 0 is divided by its root. */
export const floorOf = ({ eps1 }: Pick<AdafactorAttributes, "eps1">): number => Math.max(eps1 ** 2, SMALLEST_NORMAL);

/**
 * A launch of the kernel.
 * @param counts what its params differ from 0 in, other than attributes.
 * @param width numbers of a row that it reads at once, if they are a multiple of four.
 */
export function adafactorLaunch(
  context: InferContext<AdafactorAttributes>,
  entry: string,
  bindings: Launch["bindings"],
  counts: Partial<Record<"count" | "rows" | "columns" | "row0" | "chunk0" | "chunks", number>>,
  workgroups: number | { readonly elements: number },
  width = columns(context.spec("p").shape),
): Launch {
  const { weightDecay, eps1, eps2, threshold, scaleParameter } = context.attributes;
  const { shape } = context.spec("p");
  const element = elementKernel(kernel, [width]);
  return {
    ...element,
    entry,
    bindings,
    params: {
      count: 0,
      rows: 0,
      columns: 0,
      row0: 0,
      chunk0: 0,
      chunks: 0,
      size: elements(shape),
      eps1,
      floor: floorOf({ eps1 }),
      eps2,
      threshold,
      is_scaled: scaleParameter ? 1 : 0,
      weight_decay: weightDecay,
      ...counts,
    },
    workgroups: typeof workgroups === "number" ? workgroups : elementWorkgroups(workgroups.elements, element),
  };
}

/** A scratch tensor that the forward launches write. */
export const forwardTemp = (
  shape: (context: InferContext<AdafactorAttributes>) => readonly number[],
): Temp<AdafactorAttributes> => ({
  reads: [],
  spec: (context) => ({ shape: shape(context), dtype: "f32" }),
  launches: () => [],
});

/** The launch that makes step sizes of the squares of `count` rows or segments. */
export const stepSizeLaunch = (context: InferContext<AdafactorAttributes>, count: number): Launch =>
  adafactorLaunch(
    context,
    "step_size",
    { parameter_squares: "parameter_squares", changes: "changes", factors: "factors", hyper: "hyper" },
    { rows: count },
    1,
    1,
  );
