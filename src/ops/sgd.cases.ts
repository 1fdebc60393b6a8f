import type { TestsOf } from "../op/declaration";
import { at, input } from "./shared/reference";
import { clippedGradient, copied, judgedStep, updateInputs, updateSpecs } from "./shared/parameter-update.cases";
import { SGD_HYPER_SIZE } from "./sgd";
import type { sgd } from "./sgd";

export const sgdTests: TestsOf<typeof sgd> = {
  reference(inputs, { weightDecay, momentum, nesterov }) {
    const [learningRate = 0, share = 0, maxNorm = 0] = input(inputs, "hyper").data;
    const p = copied(inputs, "p");
    const m = inputs["m"] ? copied(inputs, "m") : undefined;
    const g = clippedGradient(inputs, maxNorm);
    for (let i = 0; g && i < p.data.length; i++) {
      const gradient = g(i) + weightDecay * at(p, i);
      let direction = gradient;
      if (m) {
        const velocity = momentum * at(m, i) + share * gradient;
        m.data[i] = velocity;
        direction = nesterov ? gradient + momentum * velocity : velocity;
      }
      p.data[i] = at(p, i) - learningRate * direction;
    }
    return { p, ...(m && { m }) };
  },
  cases: [
    {
      name: "later step, dampened, clipped, decay, odd size",
      attributes: { weightDecay: 0.1, momentum: 0.9, nesterov: false },
      inputs: { ...updateInputs([5, 13], ["m"]), ...judgedStep([0.1, 0.7, 1], { total: 30 }) },
    },
    {
      name: "Nesterov's momentum",
      attributes: { weightDecay: 0.01, momentum: 0.8, nesterov: true },
      inputs: { ...updateInputs([8, 9], ["m"]), ...judgedStep([0.1, 1, 0]) },
    },
    {
      name: "no momentum, one element",
      attributes: { weightDecay: 0.2, momentum: 0, nesterov: false },
      inputs: { ...updateInputs([1], []), ...judgedStep([0.1, 1, 1]) },
    },
    {
      name: "loss not finite: no step",
      attributes: { weightDecay: 0.1, momentum: 0.9, nesterov: false },
      inputs: { ...updateInputs([70], ["m"]), ...judgedStep([0.1, 1, 0], { loss: NaN }) },
    },
    {
      name: "gradients not finite, no momentum: no step",
      attributes: { weightDecay: 0.1, momentum: 0, nesterov: false },
      inputs: { ...updateInputs([70], []), ...judgedStep([0.1, 1, 0], { total: Infinity }) },
    },
    {
      name: "elements that can be split over bindings",
      attributes: { weightDecay: 0, momentum: 0.9, nesterov: false },
      inputs: { ...updateInputs([37, 152], ["m"]), ...judgedStep([0.1, 1, 0]) },
    },
    {
      name: "BERT-base feed-forward weight",
      attributes: { weightDecay: 0.01, momentum: 0.9, nesterov: false },
      inputs: { ...updateInputs([3072, 768], ["m"]), ...judgedStep([0.1, 1, 1]) },
      bench: true,
    },
    {
      name: "BERT-base feed-forward weight, no momentum",
      attributes: { weightDecay: 0.01, momentum: 0, nesterov: false },
      inputs: { ...updateInputs([3072, 768], []), ...judgedStep([0.1, 1, 1]) },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "velocity of another shape",
      attributes: { weightDecay: 0, momentum: 0.9, nesterov: false },
      inputs: updateSpecs(["m"], SGD_HYPER_SIZE, { m: [2, 2] }),
      message: /sgd: m \[2, 2\] differs from p \[4\]/,
    },
  ],
};
