import type { TestsOf } from "../op/declaration";
import type { relu } from "./relu";
import { elementwise } from "./shared/unary.cases";

export const reluTests: TestsOf<typeof relu> = {
  reference: elementwise((x) => Math.max(0, x)),
  cases: [
    { name: "odd size", attributes: {}, inputs: { x: { shape: [3, 5], scale: 2 } } },
    { name: "one element", attributes: {}, inputs: { x: { shape: [1], offset: 1 } } },
    { name: "elements that can be split over bindings", attributes: {}, inputs: { x: { shape: [41, 50] } } },
    { name: "bottleneck of BERT-base, 512 tokens", attributes: {}, inputs: { x: { shape: [512, 48] } }, bench: true },
  ],
  malformed: [],
};
