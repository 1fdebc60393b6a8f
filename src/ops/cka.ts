import kernel from "../../kernels/cka.wgsl";
import { DataError, LimitError, ShapeError } from "../base/errors";
import { columns, elements, formatShape, rows, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext } from "../op/declaration";
import { elementKernel, elementWorkgroups } from "../op/element";
import type { ElementKernel } from "../op/element";
import type { Launch } from "../op/launch";

const GROUP = 64;
const TILE = 8;
/** Rows, and columns, of the tile of x^T y that a workgroup computes. */
export const WIDTH = Math.sqrt(GROUP) * TILE;

export type CkaAttributes = {
  /** Whether the mean of each column is subtracted, as in the definition of CKA. */
  readonly center: boolean;
};

type Context = LaunchContext<CkaAttributes>;

/** Left and right operands of the three products left^T right, in the order of the rows of `sums`. */
export const PRODUCTS = [
  ["y", "x"],
  ["x", "x"],
  ["y", "y"],
] as const;

function sizes(context: InferContext<CkaAttributes>): { rows: number; columns: number; tiles: number } {
  const { shape } = context.spec("x");
  return { rows: rows(shape), columns: columns(shape), tiles: Math.ceil(columns(shape) / WIDTH) ** 2 };
}

function launch(
  entry: string,
  context: Context,
  { bindings, params }: Pick<Launch, "bindings" | "params">,
  workgroups: (element: ElementKernel) => number,
): Launch {
  const size = sizes(context);
  const element = elementKernel(kernel, [size.columns]);
  return {
    ...element,
    entry,
    bindings,
    params: {
      rows: size.rows,
      columns: size.columns,
      centering: context.attributes.center ? 1 : 0,
      mean0: 0,
      left_mean0: 0,
      right_mean0: 0,
      symmetric: 0,
      sum0: 0,
      ...params,
    },
    constants: { ...element.constants, TILE },
    workgroups: workgroups(element),
  };
}

function meanLaunches(context: Context): Launch[] {
  const { columns: width } = sizes(context);
  return (["x", "y"] as const).map((slot) =>
    launch(
      "temp_means",
      context,
      { bindings: { left: slot, mask: "mask", means: "means" }, params: { mean0: slot === "x" ? 0 : width } },
      (element) => elementWorkgroups(width, element),
    ),
  );
}

function productLaunches(context: Context): Launch[] {
  const { columns: width, tiles } = sizes(context);
  const mean0 = { x: 0, y: width };
  return PRODUCTS.map(([left, right], row) =>
    launch(
      "forward",
      context,
      {
        bindings: { left, right, mask: "mask", means: "means", sums: "sums" },
        params: {
          left_mean0: mean0[left],
          right_mean0: mean0[right],
          symmetric: left === right ? 1 : 0,
          sum0: row * tiles,
        },
      },
      () => tiles,
    ),
  );
}

/**
 * Squared Frobenius norms of y^T x, x^T x and y^T y, as partial sums over tiles; `finishCka` computes linear CKA from
 * them.
 * Rows whose mask is 0 are ignored. Columns are centred over the other rows if `center`. x, y [..., d], mask i32 [...];
 * sums [3, tiles].
 */
export const cka = defineOp({
  name: "cka",
  inputs: { x: {}, y: {}, mask: { dtype: "i32" } },
  outputs: ["sums"],
  infer(context: InferContext<CkaAttributes>) {
    const [x, y, mask] = [context.spec("x").shape, context.spec("y").shape, context.spec("mask").shape];
    if (x.length < 2 || !sameShape(x, y) || elements(mask) !== rows(x)) {
      throw new ShapeError(
        `cka: x ${formatShape(x)}, y ${formatShape(y)} and mask ${formatShape(mask)} do not fit.`,
        "Pass x and y of one shape [..., d] and one mask entry a row.",
      );
    }
    return { sums: { shape: [3, sizes(context).tiles], dtype: "f32" } };
  },
  temps: {
    means: {
      reads: [],
      spec: (context) => ({ shape: [2, sizes(context).columns], dtype: "f32" }),
      launches: () => [],
    },
  },
  forwardTemps: ["means"],
  forward(context) {
    const bytes = elements(context.spec("x").shape) * 4;
    if (bytes > context.limits.bindingBytes) {
      throw new LimitError(
        `cka: x has ${bytes} bytes, but this adapter binds at most ${context.limits.bindingBytes} at once.`,
        "Probe with fewer rows.",
      );
    }
    return [...meanLaunches(context), ...productLaunches(context)];
  },
  gradients: [],
  flops: (context) => 4 * sizes(context).rows * sizes(context).columns ** 2,
});

/**
 * Linear CKA of two sets of activations (Kornblith et al. 2019), ||Y^T X||^2 / (||X^T X|| ||Y^T Y||), from the `sums`
 * [3, tiles] of the op `cka`.
 *
 * @throws DataError if CKA is undefined because one side does not vary over the rows that count, or no row counts.
 */
export function finishCka(sums: ArrayLike<number>): number {
  return minibatchCka([{ sums, rows: 1 }]);
}

/**
 * Minibatch CKA (Nguyen, Raghu and Kornblith 2021, eq. 3) with the biased estimate of HSIC: the squared norms of eq. 5 of
 * Kornblith et al., each divided by the square of its batch's rows, are averaged over the batches, and CKA is taken of the
 * averages. Every batch is centred by its own column means. CKA of all rows together would need the d x d products of all
 * batches in memory. Of one batch it is linear CKA.
 * @param batches the `sums` [3, tiles] of each batch, and the number of its rows that count.
 * @throws DataError as `finishCka`.
 */
export function minibatchCka(batches: readonly { readonly sums: ArrayLike<number>; readonly rows: number }[]): number {
  const mean = (row: number): number =>
    batches.reduce((total, { sums, rows: count }) => {
      const tiles = sums.length / 3;
      let squaredNorm = 0;
      for (let tile = row * tiles; tile < (row + 1) * tiles; tile++) squaredNorm += sums[tile]!;
      // Relative to the first batch, so that the sums of a single one stay as they are.
      return total + squaredNorm * (batches[0]!.rows / count) ** 2;
    }, 0);
  const [cross, x, y] = [mean(0), mean(1), mean(2)];
  if (!(x > 0) || !(y > 0)) {
    throw new DataError(
      `CKA is undefined: the squared norms of the two sides are ${x} and ${y}.`,
      "Probe with at least two rows that count and that differ.",
    );
  }
  return cross / Math.sqrt(x) / Math.sqrt(y);
}
