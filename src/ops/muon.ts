import { elements } from "../base/shape";
import { defineOp } from "../op/declaration";
import { ADAMW_HYPER_SIZE } from "./adamw";
import { muonLaunches } from "./shared/muon";
import { at, input } from "./shared/reference";
import { checkUpdate, clippedGradient, copied, judgedStep, updateInputs, updateSpecs } from "./shared/parameter-update";

export type MuonAttributes = {
  /** Decoupled weight decay: each step multiplies the parameter by 1 - learningRate * weightDecay. */
  readonly weightDecay: number;
  /** Factor of the learning rate, by the parameter's shape. */
  readonly scale: number;
};

/**
 * The last part of a step of Muon (Jordan et al. 2024): p <- p (1 - lr weightDecay) - lr scale g, where g is the orthogonalised momentum.
 * If loss or total is not finite, p stays as it is. p, g [...] of one shape, total [1] (sum of squares of all gradients), loss [1],
 * hyper [8] by `adamwHyper`.
 */
export const muon = defineOp<MuonAttributes>({
  name: "muon",
  inputs: { p: { mutated: true }, g: {}, total: {}, loss: {}, hyper: {} },
  outputs: [],
  infer: (context) => checkUpdate(context, "muon", [], ADAMW_HYPER_SIZE),
  forward(context) {
    const { weightDecay, scale } = context.attributes;
    const launches = muonLaunches(
      {
        entry: "forward",
        tensors: ["p", "g"],
        whole: ["total", "loss", "hyper"],
        count: elements(context.spec("p").shape),
      },
      () => ({ weight_decay: weightDecay, scale }),
      context.limits,
    );
    return launches.map(({ bindings: { g, ...others }, ...launch }) => ({ ...launch, bindings: { ...others, y: g! } }));
  },
  gradients: [],
  flops: (context) => 4 * elements(context.spec("p").shape),
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
});
