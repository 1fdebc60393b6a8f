import { DataError } from "../base/errors";

export type Numbers = ArrayLike<number>;

/**
 * Share of predictions that equal their label.
 * @throws DataError for lists that are empty, of different lengths, or not finite; so do all metrics of this file.
 */
export function accuracy(predictions: Numbers, labels: Numbers): number {
  const count = countPairs(predictions, labels);
  let correct = 0;
  for (let i = 0; i < count; i++) if (predictions[i] === labels[i]) correct++;
  return correct / count;
}

/**
 * Matthews correlation of two classes, of which class 1 is positive:
 * (TP TN - FP FN) / sqrt((TP + FP)(TP + FN)(TN + FP)(TN + FN)), or 0 if the denominator is 0.
 */
export function matthews(predictions: Numbers, labels: Numbers): number {
  const { tp, tn, fp, fn } = confusion(predictions, labels);
  const root = Math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn));
  return root === 0 ? 0 : (tp * tn - fp * fn) / root;
}

/** F1 of class 1: 2 TP / (2 TP + FP + FN), or 0 if nothing is positive. */
export function f1(predictions: Numbers, labels: Numbers): number {
  const { tp, fp, fn } = confusion(predictions, labels);
  const sum = 2 * tp + fp + fn;
  return sum === 0 ? 0 : (2 * tp) / sum;
}

/** Pearson correlation in float64; 0 if one of the lists is constant. */
export function pearson(x: Numbers, y: Numbers): number {
  const count = countPairs(x, y);
  const meanX = mean(x);
  const meanY = mean(y);
  let xy = 0;
  let xx = 0;
  let yy = 0;
  for (let i = 0; i < count; i++) {
    const a = x[i]! - meanX;
    const b = y[i]! - meanY;
    xy += a * b;
    xx += a * a;
    yy += b * b;
  }
  const root = Math.sqrt(xx) * Math.sqrt(yy);
  return root === 0 ? 0 : Math.max(-1, Math.min(1, xy / root));
}

/** Spearman correlation: the Pearson correlation of the ranks. Equal values share the mean of their ranks. */
export function spearman(x: Numbers, y: Numbers): number {
  countPairs(x, y);
  return pearson(ranks(x), ranks(y));
}

/** Perplexity: exp(total negative log-likelihood in nats / tokens). @throws DataError for no tokens. */
export function perplexity(totalNll: number, tokens: number): number {
  if (!(tokens > 0)) throw new DataError(`perplexity over ${tokens} tokens`, "evaluate at least one token");
  return Math.exp(totalNll / tokens);
}

/** Ranks of values, counted from 1. Equal values share the mean of their ranks. */
function ranks(values: Numbers): Float64Array {
  const order = Array.from({ length: values.length }, (_, index) => index).sort((a, b) => values[a]! - values[b]!);
  const result = new Float64Array(values.length);
  for (let start = 0; start < order.length;) {
    let end = start + 1;
    while (end < order.length && values[order[end]!] === values[order[start]!]) end++;
    for (let i = start; i < end; i++) result[order[i]!] = (start + 1 + end) / 2;
    start = end;
  }
  return result;
}

function confusion(predictions: Numbers, labels: Numbers): { tp: number; tn: number; fp: number; fn: number } {
  const counts = { tp: 0, tn: 0, fp: 0, fn: 0 };
  for (let i = countPairs(predictions, labels) - 1; i >= 0; i--) {
    const right = predictions[i] === labels[i];
    counts[predictions[i] === 1 ? (right ? "tp" : "fp") : labels[i] === 1 ? "fn" : "tn"]++;
  }
  return counts;
}

function mean(values: Numbers): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]!;
  return sum / values.length;
}

/** The lists' common length. @throws DataError for lists that are empty, of different lengths, or not finite. */
function countPairs(a: Numbers, b: Numbers): number {
  if (a.length === 0 || a.length !== b.length) {
    throw new DataError(
      `a metric over ${a.length} predictions and ${b.length} labels`,
      "give one prediction for each label, and at least one",
    );
  }
  for (let i = 0; i < a.length; i++) {
    if (!Number.isFinite(a[i]!) || !Number.isFinite(b[i]!)) {
      throw new DataError(`prediction ${a[i]!} and label ${b[i]!} at ${i} are not both finite`, "leave out such pairs");
    }
  }
  return a.length;
}
