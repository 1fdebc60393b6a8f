import { WEIGHT_FORMATS } from "../base/packed";
import type { TestsOf } from "../op/declaration";
import { at, filled, input } from "./shared/reference";
import type { inverseNorms } from "./inverse_norms";

/** A norm below this counts as this. */
const LEAST_NORM = 1e-15;

export const inverseNormsTests: TestsOf<typeof inverseNorms> = {
  reference(tensors, { layout, scale }) {
    const [w, a, b] = [input(tensors, "w"), input(tensors, "a"), input(tensors, "b")];
    const [rank = 0, inputs = 0] = a.shape;
    const [outputs = 0] = b.shape;
    return {
      y: filled([outputs], (o) => {
        let squares = 0;
        for (let i = 0; i < inputs; i++) {
          let value = at(w, layout === "out_in" ? o * inputs + i : i * outputs + o);
          for (let r = 0; r < rank; r++) value += scale * at(b, o * rank + r) * at(a, r * inputs + i);
          squares += value ** 2;
        }
        return 1 / Math.max(Math.sqrt(squares), LEAST_NORM);
      }),
    };
  },
  cases: [
    ...WEIGHT_FORMATS.flatMap((format) => [
      {
        name: `weight in ${format}, out_in, blocks that are not full`,
        attributes: { layout: "out_in", scale: 0.5 },
        inputs: { w: { shape: [12, 132], format }, a: { shape: [3, 132] }, b: { shape: [12, 3] } },
      } as const,
      {
        name: `weight in ${format}, in_out, words that are not full`,
        attributes: { layout: "in_out", scale: 2 },
        inputs: { w: { shape: [130, 9], format }, a: { shape: [2, 130] }, b: { shape: [9, 2] } },
      } as const,
    ]),
    {
      name: "an odd number of outputs with four axes, single numbers",
      attributes: { layout: "out_in", scale: 1.5 },
      inputs: { w: { shape: [7, 3, 5, 5] }, a: { shape: [4, 75] }, b: { shape: [7, 4] } },
    },
    {
      name: "outputs without weights",
      attributes: { layout: "out_in", scale: 1 },
      inputs: {
        w: { shape: [2, 4], values: [0, 0, 0, 0, 3, 0, -4, 0] },
        a: { shape: [1, 4] },
        b: { shape: [2, 1], values: [0, 0] },
      },
    },
    {
      name: "one output, one input",
      attributes: { layout: "out_in", scale: 1 },
      inputs: { w: { shape: [1, 1] }, a: { shape: [1, 1] }, b: { shape: [1, 1] } },
    },
    {
      name: "outputs that can be split over bindings",
      attributes: { layout: "out_in", scale: 1 },
      inputs: { w: { shape: [192, 64] }, a: { shape: [4, 64] }, b: { shape: [192, 4] } },
    },
    {
      name: "inputs that can be split over bindings",
      attributes: { layout: "in_out", scale: 1 },
      inputs: { w: { shape: [192, 64] }, a: { shape: [4, 192] }, b: { shape: [64, 4] } },
    },
    ...(["f32", "nf4"] as const).map((format) => ({
      name: `LLaMA 3.2 1B's query in ${format}, rank 8`,
      attributes: { layout: "out_in" as const, scale: 1 },
      inputs: { w: { shape: [2048, 2048], format }, a: { shape: [8, 2048] }, b: { shape: [2048, 8] } },
      bench: true,
    })),
  ],
  malformed: [
    {
      name: "a B of another rank",
      attributes: { layout: "out_in", scale: 1 },
      inputs: {
        w: { shape: [4, 6], dtype: "f32" },
        a: { shape: [2, 6], dtype: "f32" },
        b: { shape: [4, 3], dtype: "f32" },
      },
      message: /b is \[4, 3\]; w \[4, 6\] needs \[4, 2\]/,
    },
    {
      name: "an A that does not fit the weight's layout",
      attributes: { layout: "in_out", scale: 1 },
      inputs: {
        w: { shape: [4, 6], dtype: "f32" },
        a: { shape: [2, 6], dtype: "f32" },
        b: { shape: [6, 2], dtype: "f32" },
      },
      message: /a is \[2, 6\]; w \[4, 6\] needs \[2, 4\]/,
    },
  ],
};
