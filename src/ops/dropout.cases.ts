import type { TestsOf } from "../op/declaration";
import { rowsPerText } from "./shared/dropout";
import { droppedElement } from "./shared/dropout.cases";
import { at, filled, input } from "./shared/reference";
import type { dropout } from "./dropout";

export const dropoutTests: TestsOf<typeof dropout> = {
  reference(inputs, { probability, salt }) {
    const x = input(inputs, "x");
    const seed = input(inputs, "seed");
    const mask = { probability, salt, seed, perText: rowsPerText("dropout", seed.shape, x.data.length) };
    return { y: filled(x.shape, (index) => droppedElement(at(x, index), index, mask)) };
  },
  cases: [
    {
      name: "a tenth dropped, odd size",
      attributes: { probability: 0.1, salt: 3 },
      inputs: { x: { shape: [5, 7] }, seed: { shape: [5, 2], values: [17, 4, 17, 5, 0, 0, 17, 4, 1, 0xffffffff] } },
    },
    {
      name: "seed and salt of 32 bits",
      attributes: { probability: 0.5, salt: 0xfffffffe },
      inputs: { x: { shape: [300] }, seed: { shape: [1, 2], values: [0xdeadbeef, 0x80000001] } },
    },
    {
      name: "one element",
      attributes: { probability: 0.5, salt: 0 },
      inputs: { x: { shape: [1] }, seed: { shape: [1, 2], values: [0, 0] } },
    },
    {
      name: "elements that can be split over bindings",
      attributes: { probability: 0.3, salt: 12 },
      inputs: { x: { shape: [2, 43, 50] }, seed: { shape: [2, 2], values: [1, 2, 1, 3] } },
    },
    {
      name: "hidden states of BERT-base, 512 tokens",
      attributes: { probability: 0.1, salt: 1 },
      inputs: { x: { shape: [512, 768] }, seed: { shape: [1, 2], values: [1, 2] } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "everything dropped",
      attributes: { probability: 1, salt: 0 },
      inputs: { x: { shape: [2], dtype: "f32" }, seed: { shape: [1, 2], dtype: "u32" } },
      message: /below 1, not 1/,
    },
    {
      name: "seed of one word",
      attributes: { probability: 0.1, salt: 0 },
      inputs: { x: { shape: [2], dtype: "f32" }, seed: { shape: [1, 1], dtype: "u32" } },
      message: /seed \[1, 1\] does not fit/,
    },
    {
      name: "seeds of three texts for two rows",
      attributes: { probability: 0.1, salt: 0 },
      inputs: { x: { shape: [2], dtype: "f32" }, seed: { shape: [3, 2], dtype: "u32" } },
      message: /does not fit 2 rows/,
    },
  ],
};
