import kernel from "../../kernels/geglu.wgsl";
import { geluParams, geluReference } from "./gelu";
import type { GeluAttributes } from "./gelu";
import { gatedOp } from "./shared/gated";

/** y = gelu(gate) * up (Shazeer 2020, eq. 6), the gated unit of Gemma and T5 1.1. gate, up, y [...] of one shape. */
export const geglu = gatedOp<GeluAttributes>({
  kernel,
  params: geluParams,
  activation: geluReference,
  flops: [21, 30, 21],
  attributes: { approximation: "tanh" },
  cases: [
    ...(["none", "tanh"] as const).map((approximation) => ({
      name: `odd size, ${approximation}`,
      attributes: { approximation },
      inputs: { gate: { shape: [2, 3, 5], scale: 2 }, up: { shape: [2, 3, 5] } },
    })),
    {
      name: "far tails and near zero",
      attributes: { approximation: "tanh" },
      inputs: { gate: { shape: [7], values: [-100, -14, -1e-4, 0, 1e-4, 14, 100] }, up: { shape: [7] } },
    },
    {
      name: "elements that can be split over bindings",
      attributes: { approximation: "tanh" },
      inputs: { gate: { shape: [37, 50] }, up: { shape: [37, 50] } },
    },
    {
      name: "Gemma 3 1B, 128 tokens",
      attributes: { approximation: "tanh" },
      inputs: { gate: { shape: [128, 6912] }, up: { shape: [128, 6912] } },
      bench: true,
    },
  ],
});
