import kernel from "../../kernels/soft_threshold.wgsl";
import { ShapeError } from "../base/errors";
import { elements, formatShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import { elementwiseLaunches } from "./shared/elementwise";
import { at, filled, input } from "./shared/reference";

export type SoftThresholdAttributes = {
  /** Subtracted from the magnitude of each element. Smaller elements become 0. */
  readonly bound: number;
};

/**
 * p <- sign(p) max(|p| - bound, 0), the proximal step of an L1 penalty (SoRA, Ding et al. 2023, eq. 8). If total or
 * loss is not finite, p stays as it is. p [...], total [1] (sum of squares of all gradients), loss [1].
 */
export const softThreshold = defineOp<SoftThresholdAttributes>({
  name: "soft_threshold",
  inputs: { p: { mutated: true }, total: {}, loss: {} },
  outputs: [],
  infer(context) {
    for (const slot of ["total", "loss"]) {
      const { shape } = context.spec(slot);
      if (elements(shape) === 1) continue;
      throw new ShapeError(`soft_threshold: ${slot} is ${formatShape(shape)}.`, "Pass it with the shape [1].");
    }
    return {};
  },
  forward: (context) =>
    elementwiseLaunches(
      {
        kernel,
        entry: "forward",
        tensors: ["p"],
        whole: ["total", "loss"],
        count: elements(context.spec("p").shape),
        params: () => ({ bound: context.attributes.bound }),
      },
      context.limits,
    ),
  gradients: [],
  flops: (context) => 2 * elements(context.spec("p").shape),
  reference(inputs, { bound }) {
    const p = input(inputs, "p");
    const isFinite = ["total", "loss"].every((slot) => Number.isFinite(at(input(inputs, slot), 0)));
    const shrunk = (v: number): number => Math.sign(v) * Math.max(Math.abs(v) - bound, 0);
    return { p: filled(p.shape, (i) => (isFinite ? shrunk(at(p, i)) : at(p, i))) };
  },
  cases: [
    {
      name: "both sides of the bound",
      attributes: { bound: 0.5 },
      inputs: {
        p: { shape: [6], values: [-2, -0.4, 0, 0.4, 0.6, 3] },
        total: { shape: [1], values: [1] },
        loss: { shape: [1], values: [2] },
      },
    },
    {
      name: "a loss that is not a number",
      attributes: { bound: 0.5 },
      inputs: { p: { shape: [3] }, total: { shape: [1], values: [1] }, loss: { shape: [1], values: [NaN] } },
    },
    {
      name: "elements that can be split over bindings",
      attributes: { bound: 0.1 },
      inputs: { p: { shape: [37, 50] }, total: { shape: [1], values: [1] }, loss: { shape: [1], values: [1] } },
    },
    {
      name: "gates of rank 64",
      attributes: { bound: 0.1 },
      inputs: { p: { shape: [64] }, total: { shape: [1], values: [1] }, loss: { shape: [1], values: [1] } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "two totals",
      attributes: { bound: 0.1 },
      inputs: {
        p: { shape: [2], dtype: "f32" },
        total: { shape: [2], dtype: "f32" },
        loss: { shape: [1], dtype: "f32" },
      },
      message: /total is \[2\]/,
    },
  ],
});
