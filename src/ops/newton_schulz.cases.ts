import type { ReferenceTensor, TestsOf } from "../op/declaration";
import { at, filled, input, matrixProduct } from "./shared/reference";
import { STEPS } from "./newton_schulz";
import type { newtonSchulz } from "./newton_schulz";

/** Coefficients of the quintic polynomial, as published. */
const [A, B, C] = [3.4445, -4.775, 2.0315];

export const newtonSchulzTests: TestsOf<typeof newtonSchulz> = {
  reference(inputs) {
    const x = input(inputs, "x");
    const [rows = 0, columns = 0] = x.shape;
    const length = Math.sqrt(at(input(inputs, "squares"), 0)) + 1e-7;
    let y: ReferenceTensor = filled(x.shape, (i) => at(x, i) / length);
    for (let step = 0; step < STEPS; step++) {
      const gram = { shape: [rows, rows], data: matrixProduct(y, y, rows, rows, columns, { b: true }) };
      const once = { shape: x.shape, data: matrixProduct(gram, y, rows, columns, rows) };
      const twice = matrixProduct(gram, once, rows, columns, rows);
      const before = y;
      y = filled(x.shape, (i) => A * at(before, i) + B * at(once, i) + C * twice[i]!);
    }
    return { y };
  },
  cases: [
    {
      name: "wide",
      attributes: {},
      inputs: { x: { shape: [5, 13] }, squares: { shape: [1], values: [65] } },
      tolerance: 1e-4,
    },
    {
      name: "tall",
      attributes: {},
      inputs: { x: { shape: [40, 8] }, squares: { shape: [1], values: [320] } },
      tolerance: 1e-4,
    },
    {
      name: "a diagonal, whose numbers follow the polynomial",
      attributes: {},
      inputs: { x: { shape: [2, 2], values: [3, 0, 0, 4] }, squares: { shape: [1], values: [25] } },
    },
    {
      name: "zeros",
      attributes: {},
      inputs: { x: { shape: [2, 3], values: [0, 0, 0, 0, 0, 0] }, squares: { shape: [1], values: [0] } },
    },
    {
      name: "one element",
      attributes: {},
      inputs: { x: { shape: [1, 1], values: [-2] }, squares: { shape: [1], values: [4] } },
    },
    {
      name: "rows that can be split over bindings",
      attributes: {},
      inputs: { x: { shape: [64, 96] }, squares: { shape: [1], values: [6144] } },
      tolerance: 1e-4,
    },
    {
      name: "BERT-base attention weight",
      attributes: {},
      inputs: { x: { shape: [768, 768] }, squares: { shape: [1], values: [589824] } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "a vector",
      attributes: {},
      inputs: { x: { shape: [4], dtype: "f32" }, squares: { shape: [1], dtype: "f32" } },
      message: /newton_schulz: x is \[4\]/,
    },
  ],
};
