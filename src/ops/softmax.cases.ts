import { columns } from "../base/shape";
import type { OpCase, TestsOf } from "../op/declaration";
import { input } from "./shared/reference";
import type { softmax, SoftmaxAttributes } from "./softmax";

export const softmaxTests: TestsOf<typeof softmax> = {
  reference(inputs, { logarithm }) {
    const { shape, data } = input(inputs, "x");
    const width = columns(shape);
    const y = new Float64Array(data.length);
    for (let first = 0; first < data.length; first += width) {
      const row = data.subarray(first, first + width);
      const largest = Math.max(...row);
      const logSum = largest + Math.log(row.reduce((sum, value) => sum + Math.exp(value - largest), 0));
      row.forEach((value, j) => (y[first + j] = logarithm ? value - logSum : Math.exp(value - logSum)));
    }
    return { y: { shape, data: y } };
  },
  cases: [
    ...[true, false].flatMap((logarithm): OpCase<SoftmaxAttributes>[] => {
      const of = logarithm ? "logarithm" : "softmax";
      return [
        { name: `${of}, odd sizes`, attributes: { logarithm }, inputs: { x: { shape: [2, 3, 7], scale: 3 } } },
        { name: `${of}, a row of 130`, attributes: { logarithm }, inputs: { x: { shape: [2, 130] } } },
        {
          name: `${of}, far ends`,
          attributes: { logarithm },
          inputs: { x: { shape: [2, 3], values: [-1e4, 0, 3, 500, 510, 505] } },
        },
        {
          name: `${of}, rows that can be split over bindings`,
          attributes: { logarithm },
          inputs: { x: { shape: [83, 64] } },
        },
      ];
    }),
    { name: "one element", attributes: { logarithm: false }, inputs: { x: { shape: [1] } } },
  ],
  malformed: [
    {
      name: "a scalar",
      attributes: { logarithm: true },
      inputs: { x: { shape: [], dtype: "f32" } },
      message: /x \[\] has no axis/,
    },
  ],
};
