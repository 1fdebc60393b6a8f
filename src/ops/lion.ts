import kernel from "../../kernels/lion.wgsl";
import { elements } from "../base/shape";
import { defineOp } from "../op/declaration";
import { elementwiseLaunches } from "./shared/elementwise";
import { at, input } from "./shared/reference";
import { checkUpdate, clippedGradient, copied, judgedStep, updateInputs, updateSpecs } from "./shared/parameter-update";

export type LionAttributes = {
  /** Decoupled weight decay: each step multiplies the parameter by 1 - learningRate * weightDecay. */
  readonly weightDecay: number;
};

/** Number of elements of the `hyper` tensor: learning rate, 1 - beta1, 1 - beta2, maximum norm or 0. */
export const LION_HYPER_SIZE = 4;

/**
 * One step of Lion (Chen et al. 2023, algorithm 2) with clipping by the global norm: every element moves by the learning rate, in
 * the direction of a mean of gradient and momentum. If loss or total is not finite, p and m stay as they are. p, m, g [...] of one
 * shape, total [1] (sum of squares of all gradients), loss [1], hyper [4].
 */
export const lion = defineOp<LionAttributes>({
  name: "lion",
  inputs: { p: { mutated: true }, m: { mutated: true }, g: {}, total: {}, loss: {}, hyper: {} },
  outputs: [],
  infer: (context) => checkUpdate(context, "lion", ["m"], LION_HYPER_SIZE),
  forward: (context) =>
    elementwiseLaunches(
      {
        kernel,
        entry: "forward",
        tensors: ["p", "m", "g"],
        whole: ["total", "loss", "hyper"],
        count: elements(context.spec("p").shape),
        params: () => ({ weight_decay: context.attributes.weightDecay }),
      },
      context.limits,
    ),
  gradients: [],
  flops: (context) => 9 * elements(context.spec("p").shape),
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
});
