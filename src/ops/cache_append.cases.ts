import type { TestsOf } from "../op/declaration";
import { at, input } from "./shared/reference";
import type { cacheAppend } from "./cache_append";

export const cacheAppendTests: TestsOf<typeof cacheAppend> = {
  reference(inputs, { offset }) {
    const [x, { shape, data }] = [input(inputs, "x"), input(inputs, "cache")];
    const [batch = 0, time = 0, row = 0] = x.shape;
    const [, ring = 0, width = 0] = shape;
    const [, capacity = 0] = input(inputs, "owners").shape;
    const cache = { shape, data: data.slice() };
    for (let b = 0; b < batch; b++) {
      for (let i = 0; i < time; i++) {
        const position = at(input(inputs, "starts"), b) + i;
        if (position >= capacity) continue;
        const owner = at(input(inputs, "owners"), b * capacity + position);
        if (owner < 0) continue;
        for (let c = 0; c < width; c++) {
          cache.data[(owner * ring + (position % ring)) * width + c] = at(x, (b * time + i) * row + offset + c);
        }
      }
    }
    return { cache };
  },
  cases: [
    {
      name: "middle columns of three texts, one of them too long",
      attributes: { offset: 3 },
      inputs: {
        x: { shape: [3, 2, 9] },
        cache: { shape: [5, 4, 3] },
        owners: { shape: [3, 4], values: [0, 0, 4, 4, 2, -1, 2, 2, 3, 3, 3, 3] },
        starts: { shape: [3], values: [2, 0, 3] },
      },
    },
    {
      name: "a ring that is shorter than the texts",
      attributes: { offset: 0 },
      inputs: {
        x: { shape: [2, 3, 4] },
        cache: { shape: [2, 5, 4] },
        owners: { shape: [2, 12], values: Array.from({ length: 24 }, (_, i) => (i < 12 ? 1 : 0)) },
        starts: { shape: [2], values: [3, 9] },
      },
    },
    {
      name: "rows that can be split over bindings",
      attributes: { offset: 0 },
      inputs: {
        x: { shape: [40, 3, 64] },
        cache: { shape: [40, 7, 16] },
        owners: { shape: [40, 7], values: Array.from({ length: 280 }, (_, i) => 39 - Math.floor(i / 7)) },
        starts: { shape: [40], values: Array.from({ length: 40 }, (_, i) => i % 5) },
      },
    },
    {
      name: "GPT-2's keys, 10 beams, one token",
      attributes: { offset: 768 },
      inputs: {
        x: { shape: [10, 1, 2304] },
        cache: { shape: [10, 256, 768] },
        owners: { shape: [10, 256], below: 10 },
        starts: { shape: [10], values: Array.from({ length: 10 }, () => 200) },
      },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "a cache that is wider than the columns of x from the offset",
      attributes: { offset: 4 },
      inputs: {
        x: { shape: [2, 1, 8], dtype: "f32" },
        cache: { shape: [2, 4, 6], dtype: "f32" },
        owners: { shape: [2, 4], dtype: "i32" },
        starts: { shape: [2], dtype: "i32" },
      },
      message: /does not have 6 columns from column 4/,
    },
    {
      name: "owners of another capacity",
      attributes: { offset: 0 },
      inputs: {
        x: { shape: [2, 1, 8], dtype: "f32" },
        cache: { shape: [2, 4, 8], dtype: "f32" },
        owners: { shape: [2, 3], dtype: "i32" },
        starts: { shape: [2], dtype: "i32" },
      },
      message: /owners \[2, 3\].*do not fit/,
    },
  ],
};
