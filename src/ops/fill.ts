import { ConfigError, ShapeError } from "../base/errors";
import { elements, formatShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import { fillLaunches } from "./shared/fill";
import { filled } from "./shared/reference";

export type FillAttributes = {
  readonly shape: readonly number[];
  readonly value: number;
};

/** A tensor of one number. y [shape]. */
export const fill = defineOp<FillAttributes>({
  name: "fill",
  inputs: {},
  outputs: ["y"],
  infer(context) {
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
  reference: (_, { shape, value }) => ({ y: filled(shape, () => value) }),
  cases: [
    { name: "odd size", attributes: { shape: [3, 5], value: -0.5 }, inputs: {} },
    { name: "a scalar", attributes: { shape: [], value: 3 }, inputs: {} },
    { name: "elements that can be split over bindings", attributes: { shape: [41, 136], value: 2 }, inputs: {} },
  ],
  malformed: [
    { name: "an axis of 0", attributes: { shape: [2, 0], value: 1 }, inputs: {}, message: /\[2, 0\] is no shape/ },
    { name: "infinity", attributes: { shape: [2], value: Infinity }, inputs: {}, message: /Infinity is not finite/ },
  ],
});
