import { WEIGHT_FORMATS } from "../base/packed";
import { columns, elements, rows } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext } from "../op/declaration";
import { checkLinearLoss, chunkedLaunches, linearLossFlops, LOGITS, OF_ROWS } from "./linear_cross_entropy";
import type { LinearCrossEntropyAttributes } from "./linear_cross_entropy";
import { fillLaunches } from "./shared/fill";
import { rowScaleLaunches } from "./shared/row-scale";

type Context = InferContext<LinearCrossEntropyAttributes>;

/**
 * The cross-entropy of each row's logits x w^T + bias, for a frozen w and a frozen bias: `linear_cross_entropy` without the mean, for losses that
 * weigh texts by what they have in common (DPO). Logits exist for a chunk of rows at a time, and neither they nor x are kept. x [..., d],
 * w [classes, d], bias [..., classes], labels i32 [...]; row_loss [rows], 0 where the label is ignored, slope [..., d] (the derivative of
 * each row's loss by its x).
 */
export const linearTokenCrossEntropy = defineOp({
  name: "linear_token_cross_entropy",
  inputs: {
    x: { gradient: true },
    w: { formats: WEIGHT_FORMATS },
    bias: { optional: true },
    labels: { dtype: "i32" },
  },
  outputs: ["row_loss", "slope"],
  infer(context: Context) {
    checkLinearLoss("linear_token_cross_entropy", context);
    const { shape } = context.spec("x");
    const rowLoss = { shape: [rows(shape)], dtype: "f32" as const };
    return context.attributes.differentiable
      ? { row_loss: rowLoss, slope: { shape, dtype: "f32" } }
      : { row_loss: rowLoss };
  },
  temps: {
    logits: LOGITS,
    lse: OF_ROWS,
    // What the slopes are multiplied by where a loss is a mean.
    normalizer: { reads: [], spec: () => ({ shape: [1], dtype: "f32" }), launches: () => [] },
  },
  forwardTemps: ["logits", "lse", "normalizer"],
  forward: (context) => [
    ...(context.attributes.differentiable ? fillLaunches("normalizer", 1, 1, context.limits) : []),
    ...chunkedLaunches(context),
  ],
  gradients: [
    {
      wrt: ["x"],
      reads: () => ["slope"],
      accumulates: true,
      overwrites: "slope",
      launches(context) {
        const { shape } = context.spec("x");
        const tables = context.inPlace ? { da: "dx" } : { dy: "slope", da: "dx" };
        const entry = context.inPlace ? "grad_a_in_place" : "grad_a";
        const size = { rows: rows(shape), width: columns(shape) };
        return rowScaleLaunches(entry, size, { tables, factors: "drow_loss" }, context);
      },
      flops: (context) => elements(context.spec("x").shape),
    },
  ],
  flops: linearLossFlops,
});
