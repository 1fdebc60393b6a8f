import { expect, it } from "vitest";
import { safe } from "safetape";
import { freezeSchedule } from "safetape/analysis";
import { scheduleChart } from "../../src/cli/schedule-chart";
import { contributionFigure } from "../../src/report/analysis/contribution";
import { hessianFigure } from "../../src/report/analysis/hessian";
import { landscapeFigure } from "../../src/report/analysis/landscape";
import { methodMemoryFigure } from "../../src/report/analysis/memory";
import { scheduleFigure } from "../../src/report/analysis/schedule";
import { sensitivityFigure } from "../../src/report/analysis/sensitivity";
import { similarityFigure } from "../../src/report/analysis/similarity";
import { standaloneSvg } from "../../src/report/svg";
import type { Figure } from "../../src/report/svg";

const count = (svg: string, pattern: RegExp): number => svg.match(pattern)?.length ?? 0;

/** The figure as a file, which may contain neither NaN nor a reference to another file. */
function drawn(figure: Figure): string {
  const svg = standaloneSvg(figure, figure.caption);
  expect(svg).not.toMatch(/NaN|undefined|Infinity/);
  expect(svg.replaceAll('"http://www.w3.org/2000/svg"', "")).not.toMatch(/https?:|<style|<script/);
  return svg;
}

it("the similarity figure has a cell for every layer, step and side", () => {
  const points = [0, 5, 10].map((step) => ({ step, original: [1, 0.9 - step / 100], final: [0.95, 0.5 + step / 20] }));
  const svg = drawn(similarityFigure(points));
  const cells = count(svg, /<rect [^>]*fill="(?:rgb|#)/g);
  const ramp = 64;
  expect(cells - ramp).toBe(3 * 2 * 2);
  expect(svg).toContain("optimizer step");
  expect(svg).toMatch(/layer 1 is the least similar to the original model: 0\.8/);
});

it("the contribution figure has a dot for every layer and a line for all of them together, in MB", () => {
  const peak = { weight: 1e6, state: 2e5, saved: 3e5, scratch: 0 };
  const run = (layer: number | undefined, accuracy: number) => {
    return { layer, metrics: { accuracy, loss: 1 }, trainable: 10, lossLast: 1, peakBytes: 1.5e6, peak, seconds: 1 };
  };
  const svg = drawn(contributionFigure([run(undefined, 0.9), run(0, 0.7), run(1, 0.8)], "accuracy"));
  expect(count(svg, /<circle [^>]*r="6"/g)).toBe(4);
  expect(svg).toContain("peak GPU memory (MB)");
  expect(svg).toContain("all layers&#39; adapters");
});

it("the figure of sensitivities has a cell for every matrix that froze, and names the last", () => {
  const frozen = ["A", "B"].flatMap((part, i) =>
    [0, 1].map((layer) => {
      return { name: `encoder.layer.${layer}.output.dense.aflora_${part}.weight`, layer, step: 10 * i + 5 * layer };
    }),
  );
  const common = { metrics: { accuracy: 0.9 }, averageLive: 12, stepsPerEpoch: 10 };
  const svg = drawn(
    sensitivityFigure([
      { sensitivity: "gradient", frozen, ...common },
      { sensitivity: "weight", frozen: frozen.slice(0, 3), ...common },
    ]),
  );
  const ramp = 64;
  expect(count(svg, /<rect [^>]*fill="(?:rgb|#)/g) - ramp).toBe(4 + 3);
  expect(svg).toContain("By |g|, the last to freeze is output.dense.aflora_B of layer 1.");
});

it("the landscape figure has contours and patches, and leaves out losses that are not finite", () => {
  const coordinates = [-1, 0, 1];
  const bowl = coordinates.map((b) => coordinates.map((a) => a * a + b * b));
  const plane = { coordinates, losses: bowl, centre: 0, parameters: 4, lengths: [1, 1] as const };
  const patches = (svg: string): number => count(svg, /<path [^>]*d="M[^"]*L[^"]*L[^"]*L[^"]*Z"/g);
  const name = "loss (nats)";
  const complete = drawn(landscapeFigure([{ name: "one", result: plane }], name));
  expect(patches(complete)).toBeGreaterThanOrEqual(4);
  expect(complete).toContain("along the first direction");
  expect(complete).toContain(name);
  const torn = { ...plane, losses: [[NaN, 1, 2], ...bowl.slice(1)] };
  const surface = (svg: string): string => svg.slice(svg.lastIndexOf("<svg"));
  const incomplete = drawn(landscapeFigure([{ name: "one", result: torn }], name));
  expect(patches(surface(complete)) - patches(surface(incomplete))).toBe(1);
});

it("the memory figure has a bar for every method and lifetime, with the total behind it", () => {
  const bytes = { weight: 1e9, state: 5e8, saved: 2e9, scratch: 1e8 };
  const methods = ["LoRA", "BitFit"].map((name) => ({ name, bytes, peakBytes: 3.6e9, trainableParameters: 1 }));
  const svg = drawn(methodMemoryFigure(methods, "a batch"));
  expect(count(svg, /<rect [^>]*fill="#/g)).toBeGreaterThanOrEqual(8);
  expect(svg).toContain("GPU memory (GB)");
  expect(count(svg, />3\.6</g)).toBe(2);
});

it("the figure of eigenvalues has a dot for every rank and method, and a bar for every residual", () => {
  const result = (sign: number) => ({
    eigenvalues: [3, -2, 1].map((value) => ({ value: sign * value, residual: 0.1 })),
    parameters: 10,
    steps: 5,
    gradients: 16,
    epsilon: 0.003,
    asymmetry: 0,
  });
  const spectra = ["lora", "lora+safe"].map((name, i) => ({ name, result: result(1 - 2 * i) }));
  const svg = drawn(hessianFigure(spectra));
  expect(count(svg, /<circle [^>]*r="5"/g)).toBe(2 * 3 + 2);
  expect(svg).toContain("rank by magnitude");
});

it("a schedule is drawn, and written as text, with the step at which each layer freezes", async () => {
  const scores = () => [0.05, 0.5, 0.14];
  const span = { steps: 100, stepsPerEpoch: 10, layers: 3 };
  const schedule = await freezeSchedule(safe({ tauT: 0.2, maxWarmup: 2, rampEnd: 6 }), { ...span, scores });
  const plan = { schedule, epochs: 10, stepsPerEpoch: 10, hasScores: true, showsLayers: true };
  const svg = drawn(scheduleFigure(plan));
  expect(svg).toContain("importance (1 − CKA)");
  expect(svg).toContain("2 of 3 layers");
  const lines = scheduleChart(plan);
  expect(lines).toHaveLength(5);
  expect(lines[1]).toMatch(/^layer 2 +█+·+ frozen at step 40$/);
  expect(lines[2]).toMatch(/^layer 1 +█{60}$/);
  expect(lines[3]).toMatch(/^layer 0 +█+·+ frozen at step 30$/);
});
