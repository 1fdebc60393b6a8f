import type { TestsOf } from "../op/declaration";
import { ADAMW_HYPER_SIZE } from "./adamw";
import { at, input } from "./shared/reference";
import { clippedGradient, copied, judgedStep, updateInputs, updateSpecs } from "./shared/parameter-update.cases";
import type { muon } from "./muon";

export const muonTests: TestsOf<typeof muon> = {
  reference(inputs, { weightDecay, scale }) {
    const p = copied(inputs, "p");
    const learningRate = at(input(inputs, "hyper"), 0);
    const g = clippedGradient(inputs, 0);
    for (let i = 0; g && i < p.data.length; i++) {
      p.data[i] = at(p, i) * (1 - learningRate * weightDecay) - learningRate * scale * g(i);
    }
    return { p };
  },
  cases: [
    {
      name: "decay, odd size",
      attributes: { weightDecay: 0.1, scale: 0.7 },
      inputs: { ...updateInputs([5, 13], []), ...judgedStep([0.1, 0, 0, 0, 0, 0, 0, 1]) },
    },
    {
      name: "one element",
      attributes: { weightDecay: 0, scale: 1 },
      inputs: { ...updateInputs([1], []), ...judgedStep([0.1, 0, 0, 0, 0, 0, 0, 0]) },
    },
    {
      name: "gradients not finite: no step",
      attributes: { weightDecay: 0.1, scale: 1 },
      inputs: { ...updateInputs([70], []), ...judgedStep([0.1, 0, 0, 0, 0, 0, 0, 0], { total: NaN }) },
    },
    {
      name: "elements that can be split over bindings",
      attributes: { weightDecay: 0.01, scale: 2 },
      inputs: { ...updateInputs([37, 152], []), ...judgedStep([0.1, 0, 0, 0, 0, 0, 0, 0]) },
    },
    {
      name: "BERT-base feed-forward weight",
      attributes: { weightDecay: 0.01, scale: 11 },
      inputs: { ...updateInputs([3072, 768], []), ...judgedStep([0.1, 0, 0, 0, 0, 0, 0, 1]) },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "direction of another shape",
      attributes: { weightDecay: 0, scale: 1 },
      inputs: updateSpecs([], ADAMW_HYPER_SIZE, { g: [5] }),
      message: /muon: g \[5\] differs from p \[4\]/,
    },
  ],
};
