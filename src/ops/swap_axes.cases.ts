import type { TestsOf } from "../op/declaration";
import { at, filled, input } from "./shared/reference";
import { sizes } from "./swap_axes";
import type { swapAxes } from "./swap_axes";

export const swapAxesTests: TestsOf<typeof swapAxes> = {
  reference(inputs) {
    const x = input(inputs, "x");
    const [b, m, n] = sizes(x.shape);
    const y = filled(x.shape.length === 2 ? [n, m] : [b, n, m], (i) =>
      at(x, Math.floor(i / (m * n)) * m * n + (i % m) * n + (Math.floor(i / m) % n)),
    );
    return { y };
  },
  cases: [
    { name: "odd sizes", attributes: {}, inputs: { x: { shape: [3, 5, 7] } } },
    { name: "one matrix", attributes: {}, inputs: { x: { shape: [5, 7] } } },
    { name: "two columns", attributes: {}, inputs: { x: { shape: [2, 19, 2] } } },
    { name: "one element", attributes: {}, inputs: { x: { shape: [1, 1, 1] } } },
    { name: "matrices that can be split over bindings", attributes: {}, inputs: { x: { shape: [64, 32, 2] } } },
    { name: "blocks of four by four", attributes: {}, inputs: { x: { shape: [3, 8, 12] } } },
    { name: "SQuAD's scores, 32 x 384", attributes: {}, inputs: { x: { shape: [32, 384, 2] } }, bench: true },
    { name: "AdaLoRA's B of BERT-base, rank 8", attributes: {}, inputs: { x: { shape: [768, 8] } }, bench: true },
  ],
  malformed: [
    {
      name: "a vector",
      attributes: {},
      inputs: { x: { shape: [2], dtype: "f32" } },
      message: /x \[2\] is not a matrix/,
    },
  ],
};
