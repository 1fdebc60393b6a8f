import { ShapeError } from "../base/errors";
import { elements, formatShape, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext } from "../op/declaration";
import { broadcastAxes, broadcastShape } from "./shared/broadcast";
import { sumLaunches } from "./shared/sum";
import { gatherLaunches } from "./shared/view";

export type BroadcastToAttributes = {
  readonly shape: readonly number[];
};

/** x, repeated as in NumPy until it has a shape. x [...], y [shape]. */
export const broadcastTo = defineOp({
  name: "broadcast_to",
  inputs: { x: { gradient: true } },
  outputs: ["y"],
  infer(context: InferContext<BroadcastToAttributes>) {
    const { shape } = context.attributes;
    const x = context.spec("x").shape;
    if (!sameShape(broadcastShape("broadcast_to", { x, shape }), shape)) {
      throw new ShapeError(
        `broadcast_to: x ${formatShape(x)} is larger than ${formatShape(shape)}.`,
        "Pass a shape in which every axis is as long as that of x.",
      );
    }
    return { y: { shape, dtype: "f32" } };
  },
  forward(context) {
    const x = context.spec("x").shape;
    const axes = broadcastAxes(context.attributes.shape, [x]);
    return gatherLaunches({ packed: "y", viewed: "x", count: elements(x), axes }, context);
  },
  gradients: [
    {
      wrt: ["x"],
      reads: () => [],
      accumulates: true,
      launches: (context) => {
        const { shape } = context.attributes;
        return sumLaunches({ source: "dy", shape, target: "dx", targetShape: context.spec("x").shape }, context);
      },
      flops: (context) => elements(context.attributes.shape),
    },
  ],
  flops: () => 0,
});
