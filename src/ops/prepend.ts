import kernel from "../../kernels/prepend.wgsl";
import { ShapeError } from "../base/errors";
import { columns, elements, formatShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext, NoAttributes } from "../op/declaration";
import { elementKernel, elementWorkgroups } from "../op/element";
import { bindRows, rowRanges } from "../op/launch";
import type { Launch } from "../op/launch";

type Context = LaunchContext<NoAttributes>;

function sizes(context: InferContext<NoAttributes>): { texts: number; head: number; x: number } {
  const { shape } = context.spec("x");
  const texts = shape[0] ?? 0;
  return { texts, head: elements(context.spec("head").shape), x: elements(shape) / texts };
}

/**
 * Launches that bind the slots `head`, `x` and `y` to the variables of the same names. `count` is the number of
 * elements that a launch for some number of texts writes.
 */
function launches(
  entry: string,
  slots: { readonly head?: string; readonly x?: string; readonly y: string },
  count: (texts: number) => number,
  context: Context,
): Launch[] {
  const { texts, head, x } = sizes(context);
  const element = elementKernel(kernel, [head, x]);
  const { WIDTH } = element.constants;
  return rowRanges(texts, [x * 4, (head + x) * 4], context.limits).map((range) => ({
    ...element,
    entry,
    bindings: {
      ...(slots.head ? { [slots.head]: slots.head } : {}),
      ...(slots.x ? { [slots.x]: bindRows(slots.x, range, x * 4) } : {}),
      [slots.y]: bindRows(slots.y, range, (head + x) * 4),
    },
    params: {
      count: count(range.count) / WIDTH,
      texts: range.count,
      head_count: head / WIDTH,
      x_count: x / WIDTH,
      accumulate: context.accumulate || (slots.head === "dhead" && range.start > 0) ? 1 : 0,
    },
    workgroups: elementWorkgroups(count(range.count), element),
  }));
}

/**
 * Puts the same n rows in front of each text: the virtual tokens of prompt tuning, or the class token of an image.
 * head [..., d] (leading axes flattened to n rows), x [b, t, d]; y [b, n + t, d].
 */
export const prepend = defineOp({
  name: "prepend",
  inputs: { head: { gradient: true }, x: { gradient: true } },
  outputs: ["y"],
  infer(context: InferContext<NoAttributes>) {
    const [head, x] = [context.spec("head").shape, context.spec("x").shape];
    const [b = 0, t = 0, d = 0] = x;
    if (x.length !== 3 || head.length === 0 || columns(head) !== d) {
      throw new ShapeError(
        `prepend: head ${formatShape(head)} does not fit x ${formatShape(x)}.`,
        "Pass head [n, d] and x [b, t, d].",
      );
    }
    return { y: { shape: [b, elements(head) / d + t, d], dtype: "f32" } };
  },
  forward(context) {
    const { head, x } = sizes(context);
    return launches("forward", { head: "head", x: "x", y: "y" }, (texts) => texts * (head + x), context);
  },
  gradients: [
    {
      wrt: ["head"],
      reads: () => [],
      accumulates: true,
      launches: (context) => launches("grad_head", { head: "dhead", y: "dy" }, () => sizes(context).head, context),
      flops: (context) => sizes(context).texts * sizes(context).head,
    },
    {
      wrt: ["x"],
      reads: () => [],
      accumulates: true,
      launches: (context) => launches("grad_x", { x: "dx", y: "dy" }, (texts) => texts * sizes(context).x, context),
    },
  ],
  flops: () => 0,
});
