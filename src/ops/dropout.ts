import kernel from "../../kernels/dropout.wgsl";
import { ConfigError } from "../base/errors";
import { elements } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext } from "../op/declaration";
import type { Launch } from "../op/launch";
import { droppedElement, rowsPerText } from "./shared/dropout";
import { accumulateParam, elementwiseLaunches } from "./shared/elementwise";
import { dropoutParams } from "./shared/product";
import { at, filled, input } from "./shared/reference";

export type DropoutAttributes = {
  /** Probability that an element is dropped: at least 0, below 1. */
  readonly probability: number;
  /** Number of this node among those with dropout, so that each has a mask of its own. */
  readonly salt: number;
};

/** Number of elements in a text. */
const perText = (context: InferContext<DropoutAttributes>): number =>
  rowsPerText("dropout", context.spec("seed").shape, elements(context.spec("x").shape));

function launches(entry: string, tensors: readonly string[], context: LaunchContext<DropoutAttributes>): Launch[] {
  const { probability, salt } = context.attributes;
  return elementwiseLaunches(
    {
      kernel,
      entry,
      tensors,
      whole: ["seed"],
      count: elements(context.spec("x").shape),
      period: perText(context),
      params: (range) => ({
        first: range.start,
        per_text: perText(context),
        ...dropoutParams(probability, salt),
        ...accumulateParam(context),
      }),
    },
    context.limits,
  );
}

/**
 * Dropout, which divides the kept elements by 1 - probability. The mask is not stored: the gradient recomputes it.
 * x [texts * ...], seed u32 [texts, 2], y [shape of x].
 */
export const dropout = defineOp<DropoutAttributes>({
  name: "dropout",
  inputs: { x: { gradient: true }, seed: { dtype: "u32" } },
  outputs: ["y"],
  infer(context) {
    const { probability } = context.attributes;
    if (!(probability >= 0 && probability < 1)) {
      throw new ConfigError(
        `dropout: the probability must be at least 0 and below 1, not ${probability}.`,
        "Pass the share of elements to drop, such as 0.1.",
      );
    }
    perText(context);
    return { y: { shape: context.spec("x").shape, dtype: "f32" } };
  },
  forward: (context) =>
    context.inPlace ? launches("forward_in_place", ["y"], context) : launches("forward", ["x", "y"], context),
  overwrites: "x",
  gradients: [
    {
      wrt: ["x"],
      reads: () => ["seed"],
      accumulates: true,
      overwrites: "dy",
      launches: (context) =>
        context.inPlace ? launches("grad_x_in_place", ["dx"], context) : launches("grad_x", ["dy", "dx"], context),
      flops: (context) => elements(context.spec("x").shape),
    },
  ],
  flops: (context) => elements(context.spec("x").shape),
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
});
