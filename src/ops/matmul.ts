import kernel from "../../kernels/broadcast.wgsl";
import { ShapeError } from "../base/errors";
import { elements, formatShape, sameShape } from "../base/shape";
import type { Shape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext } from "../op/declaration";
import type { Launch } from "../op/launch";
import { BINARY_KINDS } from "./binary";
import { broadcastShape, broadcastStrides } from "./shared/broadcast";
import { productFlops, productLaunches } from "./shared/product";
import { stridedLaunches, stridesOf } from "./shared/strided";

export type MatmulAttributes = {
  /** Whether the matrices of a are stored as [k, m], those of b as [n, k]. */
  readonly transposeA: boolean;
  readonly transposeB: boolean;
};

/** Axes with which kernels can index all of a product: those of y and the one that is summed. */
const MAX_AXES = 5;

/** Products of fewer multiply-adds than this, if there are many, are computed in one launch, number by number. */
const SMALL = 32 ** 3;
const MANY = 4;

/** A factor or the result of a product: matrices stored one after the other. */
interface Matrices {
  readonly slot: string;
  /** How many there are, as axes that broadcast to those of y. */
  readonly batch: Shape;
  readonly transposed?: boolean;
}

/** The products target [m, n] = left [m, k] right [k, n], summed over the matrices of y that share one of the target. */
interface Products {
  readonly left: Matrices;
  readonly right: Matrices;
  readonly target: Matrices;
  readonly batch: Shape;
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

interface Sizes extends Pick<Products, "batch" | "m" | "n" | "k"> {
  readonly a: Shape;
  readonly b: Shape;
}

/** Sizes of the product of matrices, or stacks of them, of these shapes. */
export function sizesOf({ transposeA, transposeB }: MatmulAttributes, a: Shape, b: Shape): Sizes {
  const [m = NaN, k = NaN] = transposeA ? a.slice(-2).reverse() : a.slice(-2);
  const [inner = NaN, n = NaN] = transposeB ? b.slice(-2).reverse() : b.slice(-2);
  const isLong = Math.max(a.length, b.length) > MAX_AXES;
  if (a.length < 2 || b.length < 2 || isLong || k !== inner) {
    const stored = [transposeA ? "a transposed" : "", transposeB ? "b transposed" : ""].filter(Boolean).join(" and ");
    throw new ShapeError(
      `matmul: a ${formatShape(a)} and b ${formatShape(b)}${stored && `, with ${stored},`} cannot be multiplied.`,
      `The last axis of a must be as long as the one before the last of b; both have 2 to ${MAX_AXES} axes.`,
    );
  }
  const [batchA, batchB] = [a.slice(0, -2), b.slice(0, -2)];
  return {
    a: batchA,
    b: batchB,
    batch: broadcastShape("matmul", { "the batch of a": batchA, "the batch of b": batchB }),
    m,
    n,
    k,
  };
}

const contextSizes = (context: InferContext<MatmulAttributes>): Sizes =>
  sizesOf(context.attributes, context.spec("a").shape, context.spec("b").shape);

const isOne = (batch: Shape): boolean => elements(batch) === 1;

/** Products whose matrices lie as those of one larger product. */
function joined(products: Products): Products {
  const { left, right, target, batch, m, k } = products;
  const count = elements(batch);
  const isAll = ({ batch: some }: Matrices): boolean => sameShape(some, batch);
  const one = { batch: [] };
  if (isAll(left) && isAll(target) && isOne(right.batch) && !left.transposed) {
    return {
      ...products,
      ...one,
      m: count * m,
      left: { ...left, ...one },
      right: { ...right, ...one },
      target: { ...target, ...one },
    };
  }
  if (isAll(left) && isAll(right) && isOne(target.batch) && left.transposed && !right.transposed) {
    return {
      ...products,
      ...one,
      k: count * k,
      left: { ...left, ...one },
      right: { ...right, ...one },
      target: { ...target, ...one },
    };
  }
  return products;
}

function launchesOf(given: Products, context: LaunchContext<MatmulAttributes>): Launch[] {
  const products = joined(given);
  const { batch, m, n, k } = products;
  return elements(batch) > MANY && m * n * k < SMALL ? inOneLaunch(products, context) : oneByOne(products, context);
}

/** Every product by the kernels of products. */
function oneByOne(products: Products, context: LaunchContext<MatmulAttributes>): Launch[] {
  const { left, right, target, batch, m, n, k } = products;
  const place = ({ batch: some }: Matrices): ((index: number) => number) => {
    const [steps, places] = [broadcastStrides(some, batch), stridesOf(batch)];
    return (index) =>
      batch.reduce((sum, size, axis) => sum + (Math.floor(index / places[axis]!) % size) * steps[axis]!, 0);
  };
  const [leftAt, rightAt, targetAt] = [place(left), place(right), place(target)];
  const written = new Set<number>();
  return Array.from({ length: elements(batch) }, (_, index) => {
    const matrix = targetAt(index);
    const accumulate = context.accumulate || written.has(matrix);
    written.add(matrix);
    const isBatch = batch.length > 0;
    return productLaunches(
      {
        m,
        n,
        k,
        accumulate,
        a: { slot: left.slot, transposed: left.transposed ?? false, ...(isBatch && { first: leftAt(index) * m * k }) },
        b: {
          slot: right.slot,
          transposed: right.transposed ?? false,
          ...(isBatch && { first: rightAt(index) * k * n }),
        },
        c: target.slot,
        ...(isBatch && { cFirst: matrix * m * n }),
      },
      context.limits,
    );
  }).flat();
}

/** All products at once, as sums over axes of elements of left times elements of right. */
function inOneLaunch(products: Products, context: LaunchContext<MatmulAttributes>): Launch[] {
  const { left, right, target, batch, m, n, k } = products;
  const [leftSteps, rightSteps] = [left, right].map((each) => broadcastStrides(each.batch, batch));
  const [leftRow, leftColumn] = left.transposed ? [1, m] : [k, 1];
  const [rightRow, rightColumn] = right.transposed ? [1, k] : [n, 1];
  const missing = batch.length - target.batch.length;
  const axes = batch.map((size, axis) => ({
    size,
    strides: [0, rightSteps![axis]! * k * n, leftSteps![axis]! * m * k],
    isSummed: size !== (target.batch[axis - missing] ?? 1),
  }));
  const summed = axes.filter(({ isSummed }) => isSummed);
  return stridedLaunches(
    {
      kernel,
      entry: "grad_by_other",
      constants: { KIND: BINARY_KINDS.indexOf("mul") },
      axes: [
        ...axes.filter(({ isSummed }) => !isSummed),
        { size: m, strides: [0, 0, leftRow] },
        { size: n, strides: [0, rightColumn, 0] },
        ...summed,
        { size: k, strides: [0, rightRow, leftColumn] },
      ],
      summedAxes: summed.length + 1,
      operands: [
        undefined,
        { variable: "b", slot: right.slot, count: elements(right.batch) * k * n },
        { variable: "dy", slot: left.slot, count: elements(left.batch) * m * k },
      ],
      targets: { target_: target.slot },
      accumulate: context.accumulate,
    },
    context.limits,
  );
}

const flops = (context: InferContext<MatmulAttributes>): number => {
  const { batch, m, n, k } = contextSizes(context);
  return elements(batch) * productFlops(m, n, k);
};

/**
 * Products of matrices, y = a b. a [..., m, k] (or [..., k, m]), b [..., k, n] (or [..., n, k]), y [..., m, n]; the axes before the
 * matrices are repeated as in NumPy.
 */
export const matmul = defineOp({
  name: "matmul",
  inputs: { a: { gradient: true }, b: { gradient: true } },
  outputs: ["y"],
  infer(context: InferContext<MatmulAttributes>) {
    const { batch, m, n } = contextSizes(context);
    return { y: { shape: [...batch, m, n], dtype: "f32" } };
  },
  forward(context) {
    const { transposeA, transposeB } = context.attributes;
    const { a, b, ...sizes } = contextSizes(context);
    return launchesOf(
      {
        ...sizes,
        left: { slot: "a", batch: a, transposed: transposeA },
        right: { slot: "b", batch: b, transposed: transposeB },
        target: { slot: "y", batch: sizes.batch },
      },
      context,
    );
  },
  gradients: [
    {
      wrt: ["a"],
      reads: () => ["b"],
      accumulates: true,
      launches(context) {
        const { transposeA, transposeB } = context.attributes;
        const { a, b, batch, m, n, k } = contextSizes(context);
        const [dy, target] = [
          { slot: "dy", batch },
          { slot: "da", batch: a },
        ];
        // da = dy b^T, or its transpose b dy^T.
        return transposeA
          ? launchesOf(
              {
                batch,
                m: k,
                n: m,
                k: n,
                left: { slot: "b", batch: b, transposed: transposeB },
                right: { ...dy, transposed: true },
                target,
              },
              context,
            )
          : launchesOf(
              { batch, m, n: k, k: n, left: dy, right: { slot: "b", batch: b, transposed: !transposeB }, target },
              context,
            );
      },
      flops,
    },
    {
      wrt: ["b"],
      reads: () => ["a"],
      accumulates: true,
      launches(context) {
        const { transposeA, transposeB } = context.attributes;
        const { a, b, batch, m, n, k } = contextSizes(context);
        const [dy, target] = [
          { slot: "dy", batch },
          { slot: "db", batch: b },
        ];
        // db = a^T dy, or its transpose dy^T a.
        return transposeB
          ? launchesOf(
              {
                batch,
                m: n,
                n: k,
                k: m,
                left: { ...dy, transposed: true },
                right: { slot: "a", batch: a, transposed: transposeA },
                target,
              },
              context,
            )
          : launchesOf(
              { batch, m: k, n, k: m, left: { slot: "a", batch: a, transposed: !transposeA }, right: dy, target },
              context,
            );
      },
      flops,
    },
  ],
  flops,
});
