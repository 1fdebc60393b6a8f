import { ShapeError } from "../base/errors";
import { elements, formatShape, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import { broadcastAxes, broadcastReference, broadcastShape } from "./shared/broadcast";
import { input } from "./shared/reference";
import { sumLaunches } from "./shared/sum";
import { gatherLaunches } from "./shared/view";

export type BroadcastToAttributes = {
  readonly shape: readonly number[];
};

/** x, repeated as in NumPy until it has a shape. x [...], y [shape]. */
export const broadcastTo = defineOp<BroadcastToAttributes>({
  name: "broadcast_to",
  inputs: { x: { gradient: true } },
  outputs: ["y"],
  infer(context) {
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
  reference: (inputs, { shape }) => ({ y: broadcastReference(input(inputs, "x"), shape) }),
  cases: [
    { name: "two axes", attributes: { shape: [2, 3, 5] }, inputs: { x: { shape: [3, 1] } } },
    { name: "a scalar", attributes: { shape: [7] }, inputs: { x: { shape: [] } } },
    { name: "one element", attributes: { shape: [1] }, inputs: { x: { shape: [1] } } },
    { name: "that can be split over bindings", attributes: { shape: [41, 136] }, inputs: { x: { shape: [136] } } },
  ],
  malformed: [
    {
      name: "a shape that is smaller",
      attributes: { shape: [1, 3] },
      inputs: { x: { shape: [2, 3], dtype: "f32" } },
      message: /x \[2, 3\] is larger than \[1, 3\]/,
    },
    {
      name: "a shape that differs",
      attributes: { shape: [2, 4] },
      inputs: { x: { shape: [2, 3], dtype: "f32" } },
      message: /x \[2, 3\] and shape \[2, 4\] do not broadcast/,
    },
  ],
});
