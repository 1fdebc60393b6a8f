import { columns, elements } from "../base/shape";
import type { OpCase, TestsOf } from "../op/declaration";
import { at, filled, input } from "./shared/reference";
import type { rmsNorm, RmsNormAttributes } from "./rms_norm";

export const rmsNormTests: TestsOf<typeof rmsNorm> = {
  reference(inputs, { eps, offset }) {
    const [x, weight] = [input(inputs, "x"), input(inputs, "weight")];
    const width = columns(weight.shape);
    const rstd = filled([elements(x.shape) / width], (i) => {
      const squares = x.data.subarray(i * width, (i + 1) * width).reduce((sum, v) => sum + v * v, 0);
      return 1 / Math.sqrt(squares / width + eps);
    });
    const y = filled(x.shape, (i) => at(x, i) * at(rstd, Math.floor(i / width)) * (offset + at(weight, i % width)));
    return { y, rstd };
  },
  cases: [
    caseOf("odd sizes", [3, 5, 7], "y"),
    caseOf("odd sizes, keeps x", [3, 5, 7], "x"),
    caseOf("more columns than a workgroup", [5, 70], "y"),
    caseOf("more columns than a workgroup, keeps x", [5, 70], "x"),
    caseOf("several chunks of rows", [2, 40, 5], "y"),
    caseOf("several chunks of rows, keeps x", [2, 40, 5], "x"),
    caseOf("one row", [1, 2], "x"),
    ...(["y", "x"] as const).map((keep) => ({
      name: `parts of rows, weights near 0 with an offset of 1, keeps ${keep}`,
      attributes: { eps: 1e-6, offset: 1, keep },
      inputs: { x: { shape: [2, 19, 12], scale: 2 }, weight: { shape: [4], scale: 0.1 } },
    })),
    caseOf("rows that can be split over bindings", [256, 8], "y"),
    caseOf("rows that can be split over bindings, keeps x", [256, 8], "x"),
    caseOf("LLaMA-2 7B, 128 tokens", [128, 4096], "y", true),
  ],
  malformed: [
    {
      name: "weight of another size",
      attributes: { eps: 1e-5, offset: 0, keep: "y" },
      inputs: { x: { shape: [2, 3], dtype: "f32" }, weight: { shape: [2], dtype: "f32" } },
      message: /weight \[2\] does not fit x \[2, 3\]/,
    },
    {
      name: "negative eps",
      attributes: { eps: -1, offset: 0, keep: "y" },
      inputs: { x: { shape: [2, 3], dtype: "f32" }, weight: { shape: [3], dtype: "f32" } },
      message: /eps is -1/,
    },
  ],
};

/** A case whose weights are near 1, as in a trained model. */
function caseOf(name: string, shape: readonly number[], keep: "y" | "x", bench = false): OpCase<RmsNormAttributes> {
  const weight = { shape: [columns(shape)], scale: 0.1, offset: 1 };
  return {
    name,
    attributes: { eps: 1e-5, offset: 0, keep },
    inputs: { x: { shape, scale: 2 }, weight },
    ...(bench && { bench }),
  };
}
