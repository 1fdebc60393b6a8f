import type { TestsOf } from "../op/declaration";
import { at, filled, input } from "./shared/reference";
import type { poolTokens } from "./pool_tokens";

export const poolTokensTests: TestsOf<typeof poolTokens> = {
  reference(inputs) {
    const [x, weights] = [input(inputs, "x"), input(inputs, "weights")];
    const [b = 0, t = 0, d = 0] = x.shape;
    const pooled = weights.shape.at(-2) ?? 0;
    const stride = weights.shape.length === 3 ? pooled * t : 0;
    return {
      y: filled([b, pooled * d], (index) => {
        const [text, p, column] = [Math.floor(index / (pooled * d)), Math.floor(index / d) % pooled, index % d];
        const terms = Array.from(
          { length: t },
          (_, i) => at(weights, text * stride + p * t + i) * at(x, (text * t + i) * d + column),
        );
        return terms.reduce((sum, term) => sum + term, 0);
      }),
    };
  },
  cases: [
    { name: "odd sizes", attributes: {}, inputs: { x: { shape: [3, 5, 7] }, weights: { shape: [3, 2, 5] } } },
    { name: "the same weights", attributes: {}, inputs: { x: { shape: [3, 5, 7] }, weights: { shape: [2, 5] } } },
    { name: "one element", attributes: {}, inputs: { x: { shape: [1, 1, 1] }, weights: { shape: [1, 1] } } },
    {
      name: "texts that can be split over bindings",
      attributes: {},
      inputs: { x: { shape: [16, 16, 64] }, weights: { shape: [16, 1, 16] } },
    },
    {
      name: "DINOv2-base, 8 images of 257 tokens",
      attributes: {},
      inputs: { x: { shape: [8, 257, 768] }, weights: { shape: [2, 257] } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "weights of another number of tokens",
      attributes: {},
      inputs: { x: { shape: [2, 3, 4], dtype: "f32" }, weights: { shape: [1, 4], dtype: "f32" } },
      message: /weights \[1, 4\] do not fit x \[2, 3, 4\]/,
    },
  ],
};
