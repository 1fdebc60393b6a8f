import * as Plot from "@observablehq/plot";
import { COLOURS, figure, panel, xAxis, yAxis } from "../../src/report/svg";
import type { Figure } from "../../src/report/svg";

/** A value after every step, of one series. */
export interface StepPoint {
  readonly series: string;
  readonly step: number;
  readonly value: number;
  /** Whether something happened at this step. */
  readonly isMarked: boolean;
}

export interface StepChart {
  readonly name: string;
  readonly title: string;
  readonly caption: string;
  /** What a marked point is. */
  readonly mark: string;
  /** Axis label of each panel, unit included, and its points. */
  readonly panels: readonly { readonly y: string; readonly points: readonly StepPoint[] }[];
}

/** Values that hold from one step to the next, one panel below the other. @throws Error for more series than colours. */
export function stepLines({ name, title, caption, mark, panels }: StepChart): Figure {
  const series = [...new Set(panels.flatMap(({ points }) => points.map((point) => point.series)))];
  const colours = Object.values(COLOURS);
  if (series.length > colours.length) throw new Error(`${series.length} series have ${colours.length} colours.`);
  const keys = series.map((label, i) => ({ label, colour: colours[i] as string, as: "line" as const }));
  const drawn = panels.map(({ y, points }) =>
    panel({
      height: 300,
      x: xAxis("optimizer step"),
      y: { ...yAxis(y), zero: true, nice: true },
      color: { domain: series, range: colours.slice(0, series.length) },
      marks: [
        Plot.ruleY([0]),
        // Earlier series are wider, so that one below another stays visible where they coincide.
        ...series.map((one, i) =>
          Plot.line(
            points.filter((point) => point.series === one),
            {
              x: "step",
              y: "value",
              stroke: "series",
              curve: "step-after",
              strokeWidth: 2 + 1.75 * (series.length - 1 - i),
              ariaDescription: one,
            },
          ),
        ),
        Plot.dot(
          points.filter(({ isMarked }) => isMarked),
          { x: "step", y: "value", fill: "series", stroke: "white", strokeWidth: 1, r: 5 },
        ),
      ],
    }),
  );
  return figure({ name, title, caption }, [...keys, { label: mark, colour: "currentColor", as: "dot" }], drawn);
}
