import type { TestsOf } from "../op/declaration";
import { at, input } from "./shared/reference";
import { clippedGradient, copied, judgedStep, updateInputs, updateSpecs } from "./shared/parameter-update.cases";
import { LION_HYPER_SIZE } from "./lion";
import type { lion } from "./lion";

export const lionTests: TestsOf<typeof lion> = {
  reference(inputs, { weightDecay }) {
    const [learningRate = 0, rate1 = 0, rate2 = 0, maxNorm = 0] = input(inputs, "hyper").data;
    const [p, m] = [copied(inputs, "p"), copied(inputs, "m")];
    const g = clippedGradient(inputs, maxNorm);
    for (let i = 0; g && i < p.data.length; i++) {
      const direction = Math.sign((1 - rate1) * at(m, i) + rate1 * g(i));
      m.data[i] = (1 - rate2) * at(m, i) + rate2 * g(i);
      p.data[i] = at(p, i) - learningRate * (direction + weightDecay * at(p, i));
    }
    return { p, m };
  },
  cases: [
    {
      name: "clipped, decay, odd size",
      attributes: { weightDecay: 0.1 },
      inputs: { ...updateInputs([5, 13], ["m"]), ...judgedStep([0.01, 0.1, 0.01, 1], { total: 30 }) },
    },
    {
      name: "no gradient and no momentum: only decay",
      attributes: { weightDecay: 0.5 },
      inputs: {
        p: { shape: [3], values: [1, -2, 0] },
        m: { shape: [3], values: [0, 0, 0] },
        g: { shape: [3], values: [0, 0, 0] },
        ...judgedStep([0.1, 0.1, 0.01, 0]),
      },
    },
    {
      name: "one element",
      attributes: { weightDecay: 0 },
      inputs: { ...updateInputs([1], ["m"]), ...judgedStep([0.01, 0.1, 0.01, 0]) },
    },
    {
      name: "loss not finite: no step",
      attributes: { weightDecay: 0.1 },
      inputs: { ...updateInputs([70], ["m"]), ...judgedStep([0.01, 0.1, 0.01, 0], { loss: -Infinity }) },
    },
    {
      name: "elements that can be split over bindings",
      attributes: { weightDecay: 0.01 },
      inputs: { ...updateInputs([37, 152], ["m"]), ...judgedStep([0.01, 0.1, 0.01, 0]) },
    },
    {
      name: "BERT-base feed-forward weight",
      attributes: { weightDecay: 0.01 },
      inputs: { ...updateInputs([3072, 768], ["m"]), ...judgedStep([0.01, 0.1, 0.01, 1]) },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "hyper of three numbers",
      attributes: { weightDecay: 0 },
      inputs: updateSpecs(["m"], LION_HYPER_SIZE, { hyper: [3] }),
      message: /lion: hyper is \[3\]/,
    },
  ],
};
