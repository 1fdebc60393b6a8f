import { ConfigError, ShapeError } from "../base/errors";
import { elements, formatShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext } from "../op/declaration";
import { fillLaunches } from "./shared/fill";

export type FillAttributes = {
  readonly shape: readonly number[];
  readonly value: number;
};

/** A tensor of one number. y [shape]. */
export const fill = defineOp({
  name: "fill",
  inputs: {},
  outputs: ["y"],
  infer(context: InferContext<FillAttributes>) {
    const { shape, value } = context.attributes;
    if (shape.some((size) => !Number.isInteger(size) || size < 1)) {
      throw new ShapeError(`fill: ${formatShape(shape)} is no shape.`, "Pass whole sizes of at least 1.");
    }
    if (!Number.isFinite(value)) {
      throw new ConfigError(`fill: ${value} is not finite.`, "Pass a finite number; shaders may assume them.");
    }
    return { y: { shape, dtype: "f32" } };
  },
  forward: (context) => fillLaunches("y", elements(context.attributes.shape), context.attributes.value, context.limits),
  gradients: [],
  flops: () => 0,
});
