import type { TestsOf } from "../op/declaration";
import { geluReference } from "./gelu.cases";
import type { geglu } from "./geglu";
import { gated, malformedGate } from "./shared/gated.cases";

export const gegluTests: TestsOf<typeof geglu> = {
  reference: gated(geluReference),
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
  malformed: malformedGate({ approximation: "tanh" }),
};
