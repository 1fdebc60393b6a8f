import { columns, rows } from "../base/shape";
import type { ReferenceTensor, TestsOf } from "../op/declaration";
import { at, filled, input } from "./shared/reference";
import { WIDTH, PRODUCTS } from "./cka";
import type { cka } from "./cka";

export const ckaTests: TestsOf<typeof cka> = {
  reference(inputs, { center }) {
    const mask = input(inputs, "mask");
    const [x, y] = [centred(input(inputs, "x"), mask, center), centred(input(inputs, "y"), mask, center)];
    const tensors = { x, y };
    const tilesPerSide = Math.ceil(columns(x.shape) / WIDTH);
    return {
      sums: filled([3, tilesPerSide ** 2], (index) => {
        const [left, right] = PRODUCTS[Math.floor(index / tilesPerSide ** 2)]!;
        const [i, j] = [Math.floor((index % tilesPerSide ** 2) / tilesPerSide), index % tilesPerSide];
        if (left === right && i > j) return 0;
        return tileSquares(tensors[left], tensors[right], i, j) * (left === right && i !== j ? 2 : 1);
      }),
    };
  },
  cases: [
    {
      name: "golden 4 x 3",
      attributes: { center: true },
      inputs: {
        x: { shape: [4, 3], values: [1, 2, 0, 0, 1, 3, 2, 0, 1, 1, 1, 1] },
        y: { shape: [4, 3], values: [1, 0, 2, 1, 1, 0, 0, 3, 1, 2, 1, 1] },
        mask: { shape: [4], values: [1, 1, 1, 1] },
      },
    },
    {
      name: "not centred, a row masked",
      attributes: { center: false },
      inputs: { x: { shape: [5, 7] }, y: { shape: [5, 7] }, mask: { shape: [5], values: [1, 0, 1, 1, 1] } },
    },
    {
      // x and y are always bound whole, so they must be smaller than the smallest binding that tests force.
      name: "several tiles, large means, a batch with padding",
      attributes: { center: true },
      inputs: {
        x: { shape: [2, 3, 70], offset: 20 },
        y: { shape: [2, 3, 70], offset: -3 },
        mask: { shape: [2, 3], values: [1, 1, 1, 1, 1, 0] },
      },
    },
    {
      name: "many rows, one masked in seven",
      attributes: { center: true },
      inputs: {
        x: { shape: [150, 3] },
        y: { shape: [150, 3], scale: 3, offset: 1 },
        mask: { shape: [150], values: Array.from({ length: 150 }, (_, i) => (i % 7 === 3 ? 0 : 1)) },
      },
    },
    {
      name: "one row, one column",
      attributes: { center: false },
      inputs: { x: { shape: [1, 1] }, y: { shape: [1, 1] }, mask: { shape: [1], values: [1] } },
    },
    {
      name: "BERT-base, 512 tokens",
      attributes: { center: true },
      inputs: { x: { shape: [4, 128, 768] }, y: { shape: [4, 128, 768] }, mask: { shape: [4, 128], below: 2 } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "y of another width",
      attributes: { center: true },
      inputs: {
        x: { shape: [4, 3], dtype: "f32" },
        y: { shape: [4, 2], dtype: "f32" },
        mask: { shape: [4], dtype: "i32" },
      },
      message: /x \[4, 3\], y \[4, 2\]/,
    },
  ],
};

/** `tensor` with masked rows set to zero and, if `center`, without the columns' means over the other rows. */
function centred(tensor: ReferenceTensor, mask: ReferenceTensor, center: boolean): ReferenceTensor {
  const width = columns(tensor.shape);
  const counted = mask.data.reduce((sum, m) => sum + (m !== 0 ? 1 : 0), 0);
  const means = new Float64Array(width);
  for (let i = 0; center && i < tensor.data.length; i++) {
    if (at(mask, Math.floor(i / width)) !== 0) means[i % width]! += at(tensor, i) / counted;
  }
  return filled(tensor.shape, (i) => (at(mask, Math.floor(i / width)) !== 0 ? at(tensor, i) - means[i % width]! : 0));
}

/** Sum of squares of one tile of left^T right. */
function tileSquares(left: ReferenceTensor, right: ReferenceTensor, tileRow: number, tileColumn: number): number {
  const width = columns(left.shape);
  let squares = 0;
  for (let i = tileRow * WIDTH; i < Math.min(width, (tileRow + 1) * WIDTH); i++) {
    for (let j = tileColumn * WIDTH; j < Math.min(width, (tileColumn + 1) * WIDTH); j++) {
      let product = 0;
      for (let k = 0; k < rows(left.shape); k++) product += at(left, k * width + i) * at(right, k * width + j);
      squares += product * product;
    }
  }
  return squares;
}
