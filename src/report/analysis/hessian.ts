import * as Plot from "@observablehq/plot";
import type { HessianSpectrum } from "../../analysis/hessian";
import { COLOURS, figure, panel, xAxis, yAxis } from "../svg";
import type { Figure } from "../svg";
import { significant } from "../units";
import type { Named } from "./named";

const PALETTE = [COLOURS.blue, COLOURS.vermilion, COLOURS.green, COLOURS.pink, COLOURS.orange, COLOURS.sky];

/** Eigenvalues by rank, those of the methods side by side, with residuals as error bars. */
export function hessianFigure(spectra: readonly Named<HessianSpectrum>[]): Figure {
  const width = 0.5 / Math.max(1, spectra.length);
  const points = spectra.flatMap(({ name, result }, method) =>
    result.eigenvalues.map(({ value, residual }, i) => ({
      name,
      value,
      least: value - residual,
      most: value + residual,
      rank: i + 1 + (method - (spectra.length - 1) / 2) * width,
    })),
  );
  const count = Math.max(...spectra.map(({ result }) => result.eigenvalues.length));
  const largest = spectra.map(({ name, result }) => `${name} ${significant(result.eigenvalues[0]?.value ?? NaN)}`);
  const colour = (name: string): string =>
    PALETTE[spectra.findIndex((spectrum) => spectrum.name === name) % PALETTE.length]!;
  return figure(
    {
      name: "hessian",
      title: `The Hessian's ${count} largest eigenvalues`,
      caption: `The largest: ${largest.join(", ")}. Bars are residuals: an eigenvalue of the Hessian lies within them.`,
    },
    spectra.map(({ name }) => ({ label: name, colour: colour(name), as: "dot" as const })),
    [
      panel({
        height: 340,
        x: { ...xAxis("rank by magnitude"), domain: [0.5, count + 0.5], ticks: count, tickFormat: "d" },
        y: { ...yAxis("eigenvalue of the loss's Hessian"), zero: true, nice: true },
        marks: [
          Plot.ruleY([0]),
          Plot.ruleX(points, {
            x: "rank",
            y1: 0,
            y2: "value",
            stroke: ({ name }: { name: string }) => colour(name),
            strokeOpacity: 0.35,
          }),
          Plot.ruleX(points, {
            x: "rank",
            y1: "least",
            y2: "most",
            strokeWidth: 3,
            stroke: ({ name }: { name: string }) => colour(name),
          }),
          Plot.dot(points, { x: "rank", y: "value", fill: ({ name }: { name: string }) => colour(name), r: 5 }),
        ],
      }),
    ],
  );
}
