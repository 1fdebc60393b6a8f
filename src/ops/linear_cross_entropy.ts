import kernel from "../../kernels/linear_cross_entropy.wgsl";
import { ShapeError } from "../base/errors";
import { WEIGHT_FORMATS } from "../base/packed";
import { columns, elements, formatShape, rows } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext, TensorSpec } from "../op/declaration";
import type { Launch, SlotRange } from "../op/launch";
import { accumulateParam, elementwiseLaunches } from "./shared/elementwise";
import { productFlops, productLaunches } from "./shared/product";
import { rowLossLaunches, totalLaunch } from "./shared/row-loss";
import type { RowLossAttributes } from "./shared/row-loss";

/** Chunks have multiples of 64 rows, so that every binding is aligned. */
const ROW_STEP = 64;

export type LinearCrossEntropyAttributes = RowLossAttributes & {
  /** Whether the forward pass computes the gradient of x as well, while it has the logits. */
  readonly differentiable: boolean;
  /** Maximum bytes of the logits that exist at the same time. At least 64 rows do. */
  readonly logitBytes: number;
};

/** `logitBytes` in training: 32 MiB. */
export const LOGIT_BYTES = 32 * 2 ** 20;

type Context = InferContext<LinearCrossEntropyAttributes>;

function sizes(context: Context): { rows: number; in: number; classes: number; chunk: number } {
  const [x, w] = [context.spec("x").shape, context.spec("w").shape];
  const [classes = 0, width = 0] = w;
  const steps = Math.max(1, Math.floor(context.attributes.logitBytes / (classes * 4 * ROW_STEP)));
  return { rows: rows(x), in: width, classes, chunk: Math.min(rows(x), steps * ROW_STEP) };
}

/** Launches that bind `slot` from its first row on, changed to bind it from `row` on. */
function fromRow(launches: readonly Launch[], slot: string, row: number, bytesPerRow: number): Launch[] {
  const shifted = (target: string | SlotRange): SlotRange =>
    typeof target === "string"
      ? { slot, offset: row * bytesPerRow, bytes: bytesPerRow }
      : { ...target, offset: target.offset + row * bytesPerRow };
  return launches.map((launch) => ({
    ...launch,
    bindings: Object.fromEntries(
      Object.entries(launch.bindings).map(([variable, target]) => {
        const isSlot = (typeof target === "string" ? target : target.slot) === slot;
        return [variable, isSlot ? shifted(target) : target];
      }),
    ),
  }));
}

/** Launches for `count` rows from `first` on: logits, losses and, if `differentiable`, the gradient of x. */
function chunkLaunches(context: LaunchContext<LinearCrossEntropyAttributes>, first: number, count: number): Launch[] {
  const { in: width, classes } = sizes(context);
  const { limits, attributes } = context;
  const format = context.spec("w").dtype;
  const size = { rows: count, classes };
  const logits = productLaunches(
    {
      m: count,
      n: classes,
      k: width,
      c: "logits",
      accumulate: false,
      a: { slot: "x" },
      b: { slot: "w", transposed: true, format },
      bias: context.has("bias") ? "bias" : undefined,
    },
    limits,
  );
  const vectors = ["labels", "lse", "row_loss"];
  const losses = rowLossLaunches(
    "forward",
    size,
    { tables: [["x", "logits"]], vectors, scalars: [] },
    attributes,
    limits,
  );
  const slopes = attributes.differentiable
    ? [
        ...rowLossLaunches(
          "temp_slope",
          size,
          { tables: [["dx", "logits"]], vectors: ["labels", "lse"], scalars: ["normalizer"] },
          attributes,
          limits,
        ),
        ...productLaunches(
          {
            m: count,
            n: width,
            k: classes,
            c: "slope",
            accumulate: false,
            a: { slot: "logits" },
            b: { slot: "w", format },
          },
          limits,
        ),
      ]
    : [];
  let launches = [...logits, ...losses, ...slopes];
  for (const slot of ["x", "slope"]) launches = fromRow(launches, slot, first, width * 4);
  for (const slot of vectors) launches = fromRow(launches, slot, first, 4);
  return launches;
}

/** The forward launches but for the sum: losses of all rows and, if `differentiable`, the gradient of x, chunk by chunk. */
export function chunkedLaunches(context: LaunchContext<LinearCrossEntropyAttributes>): Launch[] {
  const { rows: rowCount, chunk } = sizes(context);
  const starts = Array.from({ length: Math.ceil(rowCount / chunk) }, (_, i) => i * chunk);
  return starts.flatMap((first) => chunkLaunches(context, first, Math.min(chunk, rowCount - first)));
}

/** A temp of `chunkedLaunches`: a chunk of logits. */
export const LOGITS = {
  reads: [],
  spec: (context: Context): TensorSpec => ({ shape: [sizes(context).chunk, sizes(context).classes], dtype: "f32" }),
  launches: () => [],
};

/** A temp that has a number for each row, such as the log-sum-exps of `chunkedLaunches`. */
export const OF_ROWS = {
  reads: [],
  spec: (context: Context): TensorSpec => ({ shape: [sizes(context).rows], dtype: "f32" }),
  launches: () => [],
};

/** @throws ShapeError unless x [..., d], w [classes, d], a bias of as many elements and labels [...] fit. */
export function checkLinearLoss(name: string, context: Context): void {
  const [x, w] = [context.spec("x").shape, context.spec("w").shape];
  const labels = context.spec("labels").shape;
  if (x.length < 2 || w.length !== 2 || columns(x) !== w[1] || elements(labels) !== rows(x)) {
    throw new ShapeError(
      `${name}: x ${formatShape(x)}, w ${formatShape(w)} and labels ${formatShape(labels)} do not fit.`,
      "Pass x [..., d], w [classes, d] and one label for each row of x.",
    );
  }
  if (context.has("bias") && elements(context.spec("bias").shape) !== w[0]) {
    throw new ShapeError(
      `${name}: bias ${formatShape(context.spec("bias").shape)} does not fit ${w[0]} classes.`,
      `Pass a bias of ${w[0]} elements.`,
    );
  }
}

/** Floating-point operations of `chunkedLaunches`. */
export function linearLossFlops(context: Context): number {
  const { rows: rowCount, in: width, classes } = sizes(context);
  const products = context.attributes.differentiable ? 2 : 1;
  return products * productFlops(rowCount, classes, width) + 9 * rowCount * classes;
}

/**
 * Mean cross-entropy of the logits x w^T + bias, for a frozen w and a frozen bias. Logits exist for a chunk of rows at a time. The forward pass
 * computes the gradient of x from them at once, so that neither the logits nor x are kept. x [..., d], w [classes, d], bias [..., classes],
 * labels i32 [...], normalizer f32 [1] = 1 / (number of labels that are not ignored); loss [1], slope [..., d] (the
 * derivative of loss by x).
 */
export const linearCrossEntropy = defineOp({
  name: "linear_cross_entropy",
  inputs: {
    x: { gradient: true },
    w: { formats: WEIGHT_FORMATS },
    bias: { optional: true },
    labels: { dtype: "i32" },
    normalizer: {},
  },
  outputs: ["loss", "slope"],
  infer(context: Context) {
    checkLinearLoss("linear_cross_entropy", context);
    const loss = { shape: [1], dtype: "f32" as const };
    return context.attributes.differentiable
      ? { loss, slope: { shape: context.spec("x").shape, dtype: "f32" } }
      : { loss };
  },
  temps: { logits: LOGITS, lse: OF_ROWS, row_loss: OF_ROWS },
  forwardTemps: ["logits", "lse", "row_loss"],
  forward: (context) => [...chunkedLaunches(context), totalLaunch(sizes(context).rows, context.attributes)],
  gradients: [
    {
      wrt: ["x"],
      reads: () => ["slope"],
      accumulates: true,
      overwrites: "slope",
      launches: (context) =>
        elementwiseLaunches(
          {
            ...(context.inPlace
              ? { kernel, entry: "grad_x_in_place", tensors: ["dx"] }
              : { kernel, entry: "grad_x", tensors: ["slope", "dx"] }),
            whole: ["dloss"],
            count: elements(context.spec("x").shape),
            params: () => accumulateParam(context),
          },
          context.limits,
        ),
      flops: (context) => elements(context.spec("x").shape),
    },
  ],
  flops: linearLossFlops,
});
