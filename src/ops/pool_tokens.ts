import kernel from "../../kernels/pool_tokens.wgsl";
import { ShapeError } from "../base/errors";
import { elements, formatShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext, NoAttributes } from "../op/declaration";
import { elementKernel, elementWorkgroups } from "../op/element";
import { bindRows, rowRanges } from "../op/launch";
import type { Launch } from "../op/launch";

type Context = LaunchContext<NoAttributes>;

function sizes(context: InferContext<NoAttributes>) {
  const [texts = 0, tokens = 0, columns = 0] = context.spec("x").shape;
  const weights = context.spec("weights").shape;
  return { texts, tokens, columns, pooled: weights.at(-2) ?? 0, areOwn: weights.length === 3 };
}

/** Launches that read x or dy and write y or dx, both of as many texts. */
function launches(entry: string, from: "x" | "dy", to: "y" | "dx", context: Context): Launch[] {
  const { texts, tokens, columns, pooled, areOwn } = sizes(context);
  const element = elementKernel(kernel, [columns]);
  const rowsOf = { x: tokens, dx: tokens, y: pooled, dy: pooled };
  const [fromBytes, toBytes, weightBytes] = [rowsOf[from] * columns * 4, rowsOf[to] * columns * 4, pooled * tokens * 4];
  const bytes = [fromBytes, toBytes, ...(areOwn ? [weightBytes] : [])];
  return rowRanges(texts, bytes, context.limits).map((range) => {
    const count = range.count * rowsOf[to] * columns;
    return {
      ...element,
      entry,
      bindings: {
        [from]: bindRows(from, range, fromBytes),
        weights: areOwn ? bindRows("weights", range, weightBytes) : "weights",
        [to]: bindRows(to, range, toBytes),
      },
      params: {
        count: count / element.constants.WIDTH,
        tokens,
        pooled,
        columns: columns / element.constants.WIDTH,
        weights_stride: areOwn ? pooled * tokens : 0,
        accumulate: context.accumulate ? 1 : 0,
      },
      workgroups: elementWorkgroups(count, element),
    };
  });
}

/**
 * Weighted sums over the tokens of each text, for heads that read a mean: y[b, p] = sum_t weights[b, p, t] x[b, t]. x [b, t, d],
 * weights [b, p, t], or [p, t] for all texts; y [b, p * d].
 */
export const poolTokens = defineOp({
  name: "pool_tokens",
  inputs: { x: { gradient: true }, weights: {} },
  outputs: ["y"],
  infer(context: InferContext<NoAttributes>) {
    const [x, weights] = [context.spec("x").shape, context.spec("weights").shape];
    const [b = 0, t = 0, d = 0] = x;
    const isOfTexts = weights.length === 2 || (weights.length === 3 && weights[0] === b);
    if (x.length !== 3 || !isOfTexts || weights.at(-1) !== t) {
      throw new ShapeError(
        `pool_tokens: weights ${formatShape(weights)} do not fit x ${formatShape(x)}.`,
        "Pass x [b, t, d] and weights [b, p, t] or [p, t].",
      );
    }
    return { y: { shape: [b, weights.at(-2)! * d], dtype: "f32" } };
  },
  forward: (context) => launches("forward", "x", "y", context),
  gradients: [
    {
      wrt: ["x"],
      reads: () => ["weights"],
      accumulates: true,
      launches: (context) => launches("grad_x", "dy", "dx", context),
      flops: (context) => 2 * sizes(context).pooled * elements(context.spec("x").shape),
    },
  ],
  flops: (context) => 2 * sizes(context).pooled * elements(context.spec("x").shape),
});
