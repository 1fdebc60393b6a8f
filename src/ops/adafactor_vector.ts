import { elements } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext } from "../op/declaration";
import { rowRanges } from "../op/launch";
import { ADAFACTOR_HYPER_SIZE, adafactorLaunch, forwardTemp, stepSizeLaunch } from "./shared/adafactor";
import type { AdafactorAttributes } from "./shared/adafactor";
import { checkUpdate } from "./shared/parameter-update";

/** Elements of a workgroup: SEGMENT of the kernel. */
const SEGMENT = 512;

const segments = (context: InferContext<AdafactorAttributes>): number =>
  Math.ceil(elements(context.spec("p").shape) / SEGMENT);

/**
 * One step of Adafactor (Shazeer and Stern 2018, algorithm 5) on a vector, whose second moments are kept one by one, with
 * clipping by the global norm, as in torch.optim.Adafactor. If loss or total is not finite, p and v stay as they are. p, v, g [n],
 * total [1] (sum of squares of all gradients), loss [1], hyper [4].
 */
export const adafactorVector = defineOp({
  name: "adafactor_vector",
  inputs: { p: { mutated: true }, v: { mutated: true }, g: {}, total: {}, loss: {}, hyper: {} },
  outputs: [],
  infer: (context: InferContext<AdafactorAttributes>) =>
    checkUpdate(context, "adafactor_vector", ["v"], ADAFACTOR_HYPER_SIZE),
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
});
