import type { OpCase, TestsOf } from "../op/declaration";
import { at, filled, input } from "./shared/reference";
import { positions } from "./unfold";
import type { UnfoldAttributes, unfold } from "./unfold";

export const unfoldTests: TestsOf<typeof unfold> = {
  reference(inputs, attributes) {
    const x = input(inputs, "x");
    const [n = 1, c = 1, height = 1, width = 1] = x.shape;
    const { kernel: size, stride, padding, dilation, outside } = attributes;
    const [rows = 1, columns = 1] = positions([height, width], attributes);
    const [kernelRows = 1, kernelColumns = 1] = size;
    const y = filled([n, c, kernelRows * kernelColumns, rows * columns], (index) => {
      const [q, p] = [index % columns, Math.floor(index / columns) % rows];
      const inKernel = Math.floor(index / (rows * columns)) % (kernelRows * kernelColumns);
      const channel = Math.floor(index / (rows * columns * kernelRows * kernelColumns));
      const row = p * stride[0]! + Math.floor(inKernel / kernelColumns) * dilation[0]! - padding[0]!;
      const column = q * stride[1]! + (inKernel % kernelColumns) * dilation[1]! - padding[1]!;
      if (row < 0 || row >= height || column < 0 || column >= width) return outside;
      return at(x, (channel * height + row) * width + column);
    });
    return { y };
  },
  cases: [
    ...[
      { name: "stride and padding", kernel: [3, 2], stride: [2, 1], padding: [1, 0], shape: [2, 3, 5, 4] },
      { name: "dilation, another number outside", kernel: [2, 2], dilation: [2, 1], padding: [1, 2], outside: -3 },
      { name: "positions that leave columns out", kernel: [1, 1], stride: [2, 3], shape: [1, 1, 5, 5] },
      { name: "one element", kernel: [1, 1], shape: [1, 1, 1, 1] },
      { name: "that can be split over bindings", kernel: [2, 2], padding: [1, 1], shape: [2, 2, 40, 35] },
    ].map(
      ({
        name,
        kernel: size,
        stride = [1, 1],
        padding = [0, 0],
        dilation = [1, 1],
        outside = 0,
        shape = [2, 2, 4, 3],
      }): OpCase<UnfoldAttributes> => ({
        name,
        attributes: { kernel: size, stride, padding, dilation, outside },
        inputs: { x: { shape } },
      }),
    ),
  ],
  malformed: [
    {
      name: "a kernel that does not fit",
      attributes: { kernel: [3, 3], stride: [1, 1], padding: [0, 0], dilation: [1, 2], outside: 0 },
      inputs: { x: { shape: [1, 1, 4, 4], dtype: "f32" } },
      message: /a kernel of \[3, 3\] with dilation \[1, 2\] does not fit an image of \[4, 4\]/,
    },
    {
      name: "a stride of 0",
      attributes: { kernel: [1, 1], stride: [0, 1], padding: [0, 0], dilation: [1, 1], outside: 0 },
      inputs: { x: { shape: [1, 1, 4, 4], dtype: "f32" } },
      message: /stride \[0, 1\].* are not sizes/,
    },
    {
      name: "one image",
      attributes: { kernel: [1, 1], stride: [1, 1], padding: [0, 0], dilation: [1, 1], outside: 0 },
      inputs: { x: { shape: [3, 4, 4], dtype: "f32" } },
      message: /x \[3, 4, 4\] is not a batch of images/,
    },
  ],
};
