import kernel from "../../kernels/dropout.wgsl";
import { ConfigError } from "../base/errors";
import { elements } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext } from "../op/declaration";
import type { Launch } from "../op/launch";
import { rowsPerText } from "./shared/dropout";
import { accumulateParam, elementwiseLaunches } from "./shared/elementwise";
import { dropoutParams } from "./shared/product";

export type DropoutAttributes = {
  /** Probability that an element is dropped: at least 0, below 1. */
  readonly probability: number;
  /** Number of this node among those with dropout, so that each has a mask of its own. */
  readonly salt: number;
};

/** Number of elements in a text. */
const perText = (context: InferContext<DropoutAttributes>): number =>
  rowsPerText("dropout", context.spec("seed").shape, elements(context.spec("x").shape));

function launches(entry: string, tensors: readonly string[], context: LaunchContext<DropoutAttributes>): Launch[] {
  const { probability, salt } = context.attributes;
  return elementwiseLaunches(
    {
      kernel,
      entry,
      tensors,
      whole: ["seed"],
      count: elements(context.spec("x").shape),
      period: perText(context),
      params: (range) => ({
        first: range.start,
        per_text: perText(context),
        ...dropoutParams(probability, salt),
        ...accumulateParam(context),
      }),
    },
    context.limits,
  );
}

/**
 * Dropout, which divides the kept elements by 1 - probability. The mask is not stored: the gradient recomputes it.
 * x [texts * ...], seed u32 [texts, 2], y [shape of x].
 */
export const dropout = defineOp({
  name: "dropout",
  inputs: { x: { gradient: true }, seed: { dtype: "u32" } },
  outputs: ["y"],
  infer(context: InferContext<DropoutAttributes>) {
    const { probability } = context.attributes;
    if (!(probability >= 0 && probability < 1)) {
      throw new ConfigError(
        `dropout: the probability must be at least 0 and below 1, not ${probability}.`,
        "Pass the share of elements to drop, such as 0.1.",
      );
    }
    perText(context);
    return { y: { shape: context.spec("x").shape, dtype: "f32" } };
  },
  forward: (context) =>
    context.inPlace ? launches("forward_in_place", ["y"], context) : launches("forward", ["x", "y"], context),
  overwrites: "x",
  gradients: [
    {
      wrt: ["x"],
      reads: () => ["seed"],
      accumulates: true,
      overwrites: "dy",
      launches: (context) =>
        context.inPlace ? launches("grad_x_in_place", ["dx"], context) : launches("grad_x", ["dy", "dx"], context),
      flops: (context) => elements(context.spec("x").shape),
    },
  ],
  flops: (context) => elements(context.spec("x").shape),
});
