import { columns, rows } from "../base/shape";
import { attention as attentionOp } from "../ops/attention";
import { crossEntropy as crossEntropyOp } from "../ops/cross_entropy";
import { dropout as dropoutOp } from "../ops/dropout";
import { embedding as embeddingOp } from "../ops/embedding";
import { gelu as geluOp } from "../ops/gelu";
import type { GeluAttributes } from "../ops/gelu";
import { layerNorm as layerNormOp } from "../ops/layer_norm";
import { linear as linearOp } from "../ops/linear";
import type { LinearAttributes } from "../ops/linear";
import { loraLinear as loraLinearOp } from "../ops/lora_linear";
import { relu as reluOp } from "../ops/relu";
import { rmsNorm as rmsNormOp } from "../ops/rms_norm";
import { rope as ropeOp } from "../ops/rope";
import { scale as scaleOp } from "../ops/scale";
import { silu as siluOp } from "../ops/silu";
import { tanh as tanhOp } from "../ops/tanh";
import { recorderOf } from "../tape/tape";
import type { Recorder, Value } from "../tape/tape";
import { checkOptions, checkWord, recorderOfAll } from "./arguments";

/*
 * Ops of neural networks as functions of symbolic values. Each records one op, or a few, on the tape of its arguments. All of
 * them throw ShapeError or DtypeError for arguments that do not fit, and ConfigError for values of two tapes.
 */

/** x W + bias. x [..., in], w [out, in] (or [in, out] by `layout`), bias [out]; result [..., out]. */
export function linear(x: Value, w: Value, bias?: Value, options: Partial<LinearAttributes> = {}): Value {
  checkOptions("linear", options, ["layout"]);
  const { layout = "out_in" } = options;
  checkWord("linear", "layout", layout, ["out_in", "in_out"]);
  return recorderOf(x, w, bias).apply(linearOp, { x, w, bias }, { layout });
}

/**
 * x W + bias + factor (x A^T) B^T, where W may be packed (Hu et al. 2021). x [..., in], w [out, in], a [rank, in],
 * b [out, rank], bias [out]; result [..., out].
 */
export function loraLinear(
  x: Value,
  { w, a, b, bias }: { readonly w: Value; readonly a: Value; readonly b: Value; readonly bias?: Value },
  factor = 1,
): Value {
  const attributes = { layout: "out_in", scale: factor, dropout: 0, salt: 0 } as const;
  return recorderOf(x, w, a, b, bias).apply(loraLinearOp, { x, w, a, b, bias }, attributes);
}

/** Rows of a table. table [n, d], ids i32 [...]; result [..., d]. */
export const embedding = (table: Value, ids: Value): Value =>
  recorderOf(table, ids).apply(embeddingOp, { table, ids }, {});

/** Layer normalisation (Ba et al. 2016) over the last axis. x [..., d], weight [d], bias [d]. */
export const layerNorm = (x: Value, weight: Value, bias: Value, eps = 1e-5): Value =>
  recorderOf(x, weight, bias).apply(layerNormOp, { x, weight, bias }, { eps, keep: "x" });

/** Root mean square normalisation (Zhang and Sennrich 2019) over the last axis. x [..., d], weight [d]. */
export const rmsNorm = (x: Value, weight: Value, eps = 1e-6): Value =>
  recorderOf(x, weight).apply(rmsNormOp, { x, weight }, { eps, offset: 0, keep: "x" });

/** Gaussian error linear unit (Hendrycks and Gimpel 2016): exact, or by the `tanh` approximation. */
export function gelu(x: Value, options: Partial<GeluAttributes> = {}): Value {
  checkOptions("gelu", options, ["approximation"]);
  const { approximation = "none" } = options;
  checkWord("gelu", "approximation", approximation, ["none", "tanh"]);
  return recorderOf(x).apply(geluOp, { x }, { approximation });
}

/** max(x, 0). */
export const relu = (x: Value): Value => recorderOf(x).apply(reluOp, { x }, {});

/** x / (1 + exp(-x)). */
export const silu = (x: Value): Value => recorderOf(x).apply(siluOp, { x }, {});

/** The hyperbolic tangent. */
export const tanh = (x: Value): Value => recorderOf(x).apply(tanhOp, { x }, {});

/** factor * x. */
export const scale = (x: Value, factor: number): Value => recorderOf(x).apply(scaleOp, { x }, { factor });

/**
 * Dropout, which divides the kept elements by 1 - probability.
 * @param seed u32 [rows of a batch, 2], other numbers in every call: an input of the function.
 * @param salt another number for each dropout of a function, so that their masks differ.
 */
export const dropout = (x: Value, seed: Value, probability: number, salt: number): Value =>
  recorderOf(x, seed).apply(dropoutOp, { x, seed }, { probability, salt });

/** Rotary position embedding (Su et al. 2021) of x [b, t, heads * d] by a table [t, 2, h] of cosines and sines. */
export const rope = (x: Value, table: Value, heads: number): Value =>
  recorderOf(x, table).apply(ropeOp, { x, table }, { heads });

export interface AttentionOptions {
  readonly heads: number;
  /** Heads of k and v; fewer than `heads` for grouped queries. Default `heads`. */
  readonly kvHeads?: number;
  /** Whether a query sees no key after its own position. Default false. */
  readonly causal?: boolean;
  /** Keys before its own position that a query sees. Default all. */
  readonly window?: number;
  /** Which keys take part: i32 [b, s], 0 for a key that no query sees. Default all. */
  readonly mask?: Value;
  /** Factor of the scores. Default 1 / sqrt(head size). */
  readonly factor?: number;
}

// The keys of an object rather than a list, so that the compiler says where one is missing.
const ATTENTION_OPTIONS = { heads: 0, kvHeads: 0, causal: 0, window: 0, mask: 0, factor: 0 } satisfies Record<
  keyof AttentionOptions,
  0
>;

/** Attention without a matrix of queries and keys (Dao et al. 2022). q [b, t, heads * d], k and v [b, s, kvHeads * d]. */
export function attention(q: Value, k: Value, v: Value, options: AttentionOptions): Value {
  checkOptions("attention", options, Object.keys(ATTENTION_OPTIONS));
  const { heads, kvHeads = heads, causal = false, window, mask, factor } = options;
  recorderOfAll(q, k, v);
  const recorder = recorderOf(q, k, v, mask);
  const [batch = 1, keys = 1] = k.shape;
  const inputs = {
    q,
    k,
    v,
    mask: mask ?? recorder.constant(new Int32Array(batch * keys).fill(1), [batch, keys]),
    // Nothing is dropped, so that no number of it is read.
    seed: recorder.constant(new Uint32Array(2 * batch), [batch, 2]),
  };
  return recorder.apply(attentionOp, inputs, {
    heads,
    kvHeads,
    scale: factor ?? 1 / Math.sqrt(columns(q.shape) / heads),
    dropout: 0,
    salt: 0,
    ...(causal && { after: 0 }),
    ...(window !== undefined && { before: window }),
  });
}

/**
 * Mean cross-entropy of logits [..., classes] and labels i32 [...]. A row with the label -100 adds nothing, and counts in the mean
 * unless a `normalizer` is given.
 * @param normalizer f32 [1], the factor of the sum over rows. Default 1 / rows.
 */
export function crossEntropy(logits: Value, labels: Value, normalizer?: Value): Value {
  recorderOfAll(logits, labels);
  const recorder = recorderOf(logits, labels, normalizer);
  const factor = normalizer ?? number(recorder, 1 / Math.max(1, rows(logits.shape)));
  const inputs = { x: logits, labels, normalizer: factor };
  return recorder.apply(crossEntropyOp, inputs, { ignored: -100, smoothing: 0 });
}

const number = (recorder: Recorder, value: number): Value => recorder.constant(Float32Array.of(value), [1]);
