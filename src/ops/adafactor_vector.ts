import { elements } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { CaseInput, InferContext } from "../op/declaration";
import { rowRanges } from "../op/launch";
import { ADAFACTOR_HYPER_SIZE, adafactorLaunch, applyChanges, forwardTemp, stepSizeLaunch } from "./shared/adafactor";
import type { AdafactorAttributes } from "./shared/adafactor";
import { at, input } from "./shared/reference";
import { checkUpdate, clippedGradient, copied, judgedStep, updateInputs, updateSpecs } from "./shared/parameter-update";

/** Elements of a workgroup: SEGMENT of the kernel. */
const SEGMENT = 512;

const segments = (context: InferContext<AdafactorAttributes>): number =>
  Math.ceil(elements(context.spec("p").shape) / SEGMENT);

/**
 * One step of Adafactor (Shazeer and Stern 2018, algorithm 5) on a vector, whose second moments are kept one by one, with
 * clipping by the global norm, as in torch.optim.Adafactor. If loss or total is not finite, p and v stay as they are. p, v, g [n],
 * total [1] (sum of squares of all gradients), loss [1], hyper [4].
 */
export const adafactorVector = defineOp<AdafactorAttributes>({
  name: "adafactor_vector",
  inputs: { p: { mutated: true }, v: { mutated: true }, g: {}, total: {}, loss: {}, hyper: {} },
  outputs: [],
  infer: (context) => checkUpdate(context, "adafactor_vector", ["v"], ADAFACTOR_HYPER_SIZE),
  temps: {
    parameter_squares: forwardTemp((context) => [segments(context)]),
    changes: forwardTemp((context) => [segments(context)]),
    factors: forwardTemp(() => [2]),
  },
  forwardTemps: ["parameter_squares", "changes", "factors"],
  forward(context) {
    const size = elements(context.spec("p").shape);
    const judged = { total: "total", loss: "loss", hyper: "hyper" };
    const parts = rowRanges(segments(context), [SEGMENT * 4], context.limits).map(({ start, count: segmentCount }) => {
      const count = Math.min(segmentCount * SEGMENT, size - start * SEGMENT);
      const bound = (slot: string) => ({ slot, offset: start * SEGMENT * 4, bytes: count * 4 });
      return { row0: start, segmentCount, count, bindings: { p: bound("p"), g: bound("g"), v: bound("v") } };
    });
    return [
      ...parts.map(({ row0, segmentCount, count, bindings }) =>
        adafactorLaunch(
          context,
          "vector_moments",
          { ...bindings, parameter_squares: "parameter_squares", changes: "changes", ...judged },
          { count, row0 },
          segmentCount,
        ),
      ),
      stepSizeLaunch(context, segments(context)),
      ...parts.map(({ count, bindings }) =>
        adafactorLaunch(
          context,
          "vector",
          { ...bindings, factors: "factors", ...judged },
          { count },
          { elements: count },
        ),
      ),
    ];
  },
  gradients: [],
  flops: (context) => 15 * elements(context.spec("p").shape),
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
});

/** Parameter, gradient and moments of a case. The moments are well above zero. */
function vectorInputs(size: number): Record<string, CaseInput> {
  return { ...updateInputs([size], []), v: { shape: [size], scale: 0.02, offset: 0.2 } };
}
