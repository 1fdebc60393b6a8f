import { columns, rows } from "../base/shape";
import type { OpCase, TestsOf } from "../op/declaration";
import { at, filled, input } from "./shared/reference";
import type { layerNorm, LayerNormAttributes } from "./layer_norm";

export const layerNormTests: TestsOf<typeof layerNorm> = {
  reference(inputs, { eps }) {
    const [x, weight, bias] = [input(inputs, "x"), input(inputs, "weight"), input(inputs, "bias")];
    const width = columns(x.shape);
    const row = (index: number): Float64Array => x.data.subarray(index * width, (index + 1) * width);
    const means = filled([rows(x.shape)], (i) => row(i).reduce((sum, v) => sum + v, 0) / width);
    const rstd = filled([rows(x.shape)], (i) => {
      const variance = row(i).reduce((sum, v) => sum + (v - at(means, i)) ** 2, 0) / width;
      return 1 / Math.sqrt(variance + eps);
    });
    const y = filled(x.shape, (index) => {
      const [i, j] = [Math.floor(index / width), index % width];
      return (at(x, index) - at(means, i)) * at(rstd, i) * at(weight, j) + at(bias, j);
    });
    return { y, rstd };
  },
  cases: [
    caseOf("odd sizes", [3, 5, 7], { keep: "y" }),
    caseOf("odd sizes, keeps x", [3, 5, 7], { keep: "x" }),
    caseOf("more columns than a workgroup", [5, 70], { keep: "y" }),
    caseOf("more columns than a workgroup, keeps x", [5, 70], { keep: "x" }),
    caseOf("several chunks of rows", [2, 40, 5], { keep: "y" }),
    caseOf("several chunks of rows, keeps x", [2, 40, 5], { keep: "x" }),
    {
      name: "large mean, small deviation, eps of BERT",
      attributes: { eps: 1e-12, keep: "x" },
      inputs: { x: { shape: [4, 48], offset: 30 }, weight: { shape: [48] }, bias: { shape: [48] } },
    },
    {
      name: "one column: y is the bias",
      attributes: { eps: 1e-5, keep: "x" },
      inputs: { x: { shape: [2, 1] }, weight: { shape: [1] }, bias: { shape: [1] } },
    },
    caseOf("rows that can be split over bindings", [256, 8], { keep: "y" }),
    caseOf("rows that can be split over bindings, keeps x", [256, 8], { keep: "x" }),
    caseOf("BERT-base, 512 tokens", [512, 768], { keep: "y", bench: true }),
    caseOf("GPT-2 medium, 512 tokens, keeps x", [512, 1024], { keep: "x", bench: true }),
  ],
  malformed: [
    {
      name: "weight of another size",
      attributes: { eps: 1e-5, keep: "y" },
      inputs: {
        x: { shape: [2, 3], dtype: "f32" },
        weight: { shape: [2], dtype: "f32" },
        bias: { shape: [3], dtype: "f32" },
      },
      message: /weight \[2\] and bias \[3\] do not fit x \[2, 3\]/,
    },
    {
      name: "negative eps",
      attributes: { eps: -1, keep: "y" },
      inputs: {
        x: { shape: [2, 3], dtype: "f32" },
        weight: { shape: [3], dtype: "f32" },
        bias: { shape: [3], dtype: "f32" },
      },
      message: /eps is -1/,
    },
  ],
};

/** A case whose weights are near 1, as in a trained model. */
function caseOf(
  name: string,
  shape: readonly number[],
  { keep, bench = false }: { keep: "y" | "x"; bench?: boolean },
): OpCase<LayerNormAttributes> {
  const d = columns(shape);
  const inputs = { x: { shape, scale: 2 }, weight: { shape: [d], scale: 0.1, offset: 1 }, bias: { shape: [d] } };
  return { name, attributes: { eps: 1e-5, keep }, inputs, ...(bench ? { bench } : {}) };
}
