import { at } from "./reference";
import type { ReferenceTensor } from "../../op/declaration";
import type { RowLossAttributes } from "./row-loss";

/**
 * Loss, losses and log-sum-exps [rows], and slopes [rows, classes] (the gradient of the logits if dloss is 1) of logits
 * [rows, classes], in plain loops, in float64.
 */
export function rowLossReference(
  logits: ReferenceTensor,
  labels: ReferenceTensor,
  normalizer: number,
  { ignored, smoothing, cap }: RowLossAttributes,
): { loss: number; losses: Float64Array; lse: Float64Array; slopes: Float64Array } {
  const classes = logits.shape.at(-1)!;
  const rows = logits.data.length / classes;
  const [losses, lse, slopes] = [new Float64Array(rows), new Float64Array(rows), new Float64Array(logits.data.length)];
  for (let row = 0; row < rows; row++) {
    const stored = logits.data.subarray(row * classes, (row + 1) * classes);
    const rowLogits = cap === undefined ? stored : stored.map((logit) => cap * Math.tanh(logit / cap));
    const largest = rowLogits.reduce((a, b) => Math.max(a, b), -Infinity);
    const logSumExp = largest + Math.log(rowLogits.reduce((sum, logit) => sum + Math.exp(logit - largest), 0));
    lse[row] = logSumExp;
    const label = at(labels, row);
    if (label === ignored) continue;
    const logitSum = rowLogits.reduce((sum, logit) => sum + logit, 0);
    losses[row] = logSumExp - (1 - smoothing) * rowLogits[label]! - (smoothing / classes) * logitSum;
    rowLogits.forEach((logit, j) => {
      const target = smoothing / classes + (j === label ? 1 - smoothing : 0);
      const capSlope = cap === undefined ? 1 : 1 - (logit / cap) ** 2;
      slopes[row * classes + j] = normalizer * (Math.exp(logit - logSumExp) - target) * capSlope;
    });
  }
  return { loss: losses.reduce((sum, loss) => sum + loss, 0) * normalizer, losses, lse, slopes };
}
