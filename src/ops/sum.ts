import { elements } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext } from "../op/declaration";
import { checkAxes, keptShape, reducedShape } from "./shared/axes";
import type { AxesAttributes } from "./shared/axes";
import { broadcastAxes } from "./shared/broadcast";
import { sumLaunches } from "./shared/sum";
import { gatherLaunches } from "./shared/view";

export type SumAttributes = AxesAttributes & {
  /** Whether sums are divided by the number of elements that each of them has. */
  readonly mean: boolean;
};

/** What the sums are multiplied by. */
function factorOf(context: InferContext<SumAttributes>): number {
  const { shape } = context.spec("x");
  const { axes, mean } = context.attributes;
  return mean ? 1 / axes.reduce((product, axis) => product * shape[axis]!, 1) : 1;
}

/** Sums or means over axes. x [...], y [x without the axes, or with 1 in their places]. */
export const sum = defineOp({
  name: "sum",
  inputs: { x: { gradient: true } },
  outputs: ["y"],
  infer(context: InferContext<SumAttributes>) {
    const { shape } = context.spec("x");
    checkAxes("sum", shape, context.attributes);
    return { y: { shape: reducedShape(shape, context.attributes), dtype: "f32" } };
  },
  forward(context) {
    const { shape } = context.spec("x");
    const targetShape = keptShape(shape, context.attributes);
    return sumLaunches({ source: "x", shape, target: "y", targetShape, factor: factorOf(context) }, context);
  },
  gradients: [
    {
      wrt: ["x"],
      reads: () => [],
      accumulates: true,
      launches(context) {
        const { shape } = context.spec("x");
        const kept = keptShape(shape, context.attributes);
        const view = { packed: "dx", viewed: "dy", count: elements(kept), axes: broadcastAxes(shape, [kept]) };
        return gatherLaunches({ ...view, factor: factorOf(context) }, context);
      },
      flops: (context) => elements(context.spec("x").shape),
    },
  ],
  flops: (context) => elements(context.spec("x").shape),
});
