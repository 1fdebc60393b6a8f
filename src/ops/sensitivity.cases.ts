import type { ReferenceTensor, TestsOf } from "../op/declaration";
import { at, filled, input } from "./shared/reference";
import { SENSITIVITY_KINDS } from "./sensitivity";
import type { sensitivity } from "./sensitivity";

export const sensitivityTests: TestsOf<typeof sensitivity> = {
  reference(inputs, { kind, beta1, beta2 }) {
    const [p, g] = [input(inputs, "p"), input(inputs, "g")];
    const current = (i: number): number => {
      if (kind === "weight") return Math.abs(at(p, i));
      if (!Number.isFinite(at(g, i))) return 0;
      if (kind === "weight_gradient") return Math.abs(at(p, i) * at(g, i));
      if (kind === "gradient_over_weight") return at(p, i) === 0 ? 0 : Math.abs(at(g, i) / at(p, i));
      return Math.abs(at(g, i));
    };
    const smoothed = (value: (i: number) => number): { mean: ReferenceTensor; uncertainty: ReferenceTensor } => {
      const mean = filled(p.shape, (i) => beta1 * at(input(inputs, "mean"), i) + (1 - beta1) * value(i));
      const change = (i: number): number => Math.abs(value(i) - at(mean, i));
      return {
        mean,
        uncertainty: filled(p.shape, (i) => beta2 * at(input(inputs, "uncertainty"), i) + (1 - beta2) * change(i)),
      };
    };
    const previous = inputs["average"];
    if (!previous) return smoothed(current);
    const phase = at(input(inputs, "phase"), 0);
    const nonzero = (i: number): number => (at(p, i) === 0 ? 0 : current(i));
    const average = filled(p.shape, (i) => (at(previous, i) * phase + nonzero(i)) / (phase + 1));
    const unchanged = { mean: input(inputs, "mean"), uncertainty: input(inputs, "uncertainty") };
    return { ...(phase === 0 ? smoothed((i) => at(previous, i)) : unchanged), average };
  },
  cases: [
    ...SENSITIVITY_KINDS.map((kind) => ({
      name: `${kind}, odd size`,
      attributes: { kind, beta1: 0.85, beta2: 0.95 },
      inputs: {
        p: { shape: [3, 5], offset: 2 },
        g: { shape: [3, 5] },
        mean: { shape: [3, 5] },
        uncertainty: { shape: [3, 5] },
      },
    })),
    ...[0, 3].map((phase) => ({
      name: `step ${phase} of a window, a weight of 0`,
      attributes: { kind: "gradient" as const, beta1: 0.85, beta2: 0.95 },
      inputs: {
        p: { shape: [4], values: [1, 0, -2, 3] },
        g: { shape: [4] },
        mean: { shape: [4] },
        uncertainty: { shape: [4] },
        average: { shape: [4] },
        phase: { shape: [1], values: [phase] },
      },
    })),
    {
      name: "a weight of 0, a gradient that is not a number",
      attributes: { kind: "gradient_over_weight", beta1: 0.5, beta2: 0.5 },
      inputs: {
        p: { shape: [3], values: [0, 1, 2] },
        g: { shape: [3], values: [1, NaN, 3] },
        mean: { shape: [3] },
        uncertainty: { shape: [3] },
      },
    },
    {
      name: "elements that can be split over bindings",
      attributes: { kind: "gradient", beta1: 0.85, beta2: 0.95 },
      inputs: {
        p: { shape: [37, 50] },
        g: { shape: [37, 50] },
        mean: { shape: [37, 50] },
        uncertainty: { shape: [37, 50] },
      },
    },
    {
      name: "A of BERT-base, rank 4",
      attributes: { kind: "gradient", beta1: 0.85, beta2: 0.95 },
      inputs: {
        p: { shape: [4, 768] },
        g: { shape: [4, 768] },
        mean: { shape: [4, 768] },
        uncertainty: { shape: [4, 768] },
      },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "a window without its phase",
      attributes: { kind: "gradient", beta1: 0.85, beta2: 0.95 },
      inputs: {
        p: { shape: [2], dtype: "f32" },
        g: { shape: [2], dtype: "f32" },
        mean: { shape: [2], dtype: "f32" },
        uncertainty: { shape: [2], dtype: "f32" },
        average: { shape: [2], dtype: "f32" },
      },
      message: /average and phase belong together/,
    },
    {
      name: "a mean of another shape",
      attributes: { kind: "gradient", beta1: 0.85, beta2: 0.95 },
      inputs: {
        p: { shape: [2], dtype: "f32" },
        g: { shape: [2], dtype: "f32" },
        mean: { shape: [3], dtype: "f32" },
        uncertainty: { shape: [2], dtype: "f32" },
      },
      message: /mean \[3\] differs from p \[2\]/,
    },
  ],
};
