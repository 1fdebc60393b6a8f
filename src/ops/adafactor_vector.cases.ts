import type { CaseInput, TestsOf } from "../op/declaration";
import { ADAFACTOR_HYPER_SIZE } from "./shared/adafactor";
import { applyChanges } from "./shared/adafactor.cases";
import { at, input } from "./shared/reference";
import { clippedGradient, copied, judgedStep, updateInputs, updateSpecs } from "./shared/parameter-update.cases";
import type { adafactorVector } from "./adafactor_vector";

export const adafactorVectorTests: TestsOf<typeof adafactorVector> = {
  reference(inputs, attributes) {
    const hyper = input(inputs, "hyper").data;
    const [, rate = 0, maxNorm = 0] = hyper;
    const [p, v] = [copied(inputs, "p"), copied(inputs, "v")];
    const g = clippedGradient(inputs, maxNorm);
    if (!g) return { p, v };
    for (let i = 0; i < p.data.length; i++) v.data[i] = at(v, i) + rate * (g(i) ** 2 - at(v, i));
    applyChanges(p, g, (i) => at(v, i), hyper, attributes);
    return { p, v };
  },
  cases: [
    {
      name: "relative to the parameter, clipped, decay, several segments",
      attributes: { weightDecay: 0.1, eps1: 1e-30, eps2: 1e-3, threshold: 1, scaleParameter: true },
      inputs: { ...vectorInputs(1100), ...judgedStep([0.1, 0.3, 1, 0.2], { total: 30 }) },
    },
    {
      name: "absolute steps, odd size",
      attributes: { weightDecay: 0, eps1: 1e-30, eps2: 1e-3, threshold: 0.5, scaleParameter: false },
      inputs: { ...vectorInputs(13), ...judgedStep([0.1, 1, 0, 0.1]) },
    },
    {
      name: "a parameter of 0, without a gradient",
      attributes: { weightDecay: 0, eps1: 1e-30, eps2: 1e-3, threshold: 1, scaleParameter: true },
      inputs: {
        p: { shape: [1], values: [0] },
        g: { shape: [1], values: [0] },
        v: { shape: [1], values: [0] },
        ...judgedStep([0.1, 1, 0, 0.1]),
      },
    },
    {
      name: "gradients not finite: no step",
      attributes: { weightDecay: 0.1, eps1: 1e-30, eps2: 1e-3, threshold: 1, scaleParameter: false },
      inputs: { ...vectorInputs(70), ...judgedStep([0.1, 0.5, 0, 0.1], { total: Infinity }) },
    },
    {
      name: "elements that can be split over bindings",
      attributes: { weightDecay: 0.01, eps1: 1e-30, eps2: 1e-3, threshold: 1, scaleParameter: true },
      inputs: { ...vectorInputs(11009), ...judgedStep([0.1, 0.5, 0, 0.1]) },
    },
    {
      name: "bias of 3072",
      attributes: { weightDecay: 0, eps1: 1e-30, eps2: 1e-3, threshold: 1, scaleParameter: false },
      inputs: { ...vectorInputs(3072), ...judgedStep([0.1, 0.5, 1, 0.1]) },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "moments of another shape",
      attributes: { weightDecay: 0, eps1: 1e-30, eps2: 1e-3, threshold: 1, scaleParameter: false },
      inputs: updateSpecs(["v"], ADAFACTOR_HYPER_SIZE, { v: [3] }),
      message: /adafactor_vector: v \[3\] differs from p \[4\]/,
    },
  ],
};

/** Parameter, gradient and moments of a case. The moments are well above zero. */
function vectorInputs(size: number): Record<string, CaseInput> {
  return { ...updateInputs([size], []), v: { shape: [size], scale: 0.02, offset: 0.2 } };
}
