import * as Plot from "@observablehq/plot";
import { COLOURS, figure, panel, xAxis, yAxis } from "../../src/report/svg";
import type { Figure } from "../../src/report/svg";

/** The value of one series after one step. */
export interface StepPoint {
  readonly series: string;
  readonly step: number;
  readonly value: number;
  /** Whether a dot marks this point; `StepChart.mark` says what the dots mean. */
  readonly isMarked: boolean;
}

export interface StepChart {
  readonly name: string;
  readonly title: string;
  readonly caption: string;
  /** The meaning of a marked point, for the legend. */
  readonly mark: string;
  /** For each panel, the label of its y axis, unit included, and its points. */
  readonly panels: readonly { readonly y: string; readonly points: readonly StepPoint[] }[];
}

/** Draws values as step functions, one panel below the other. @throws Error for more series than colours. */
export function stepLines({ name, title, caption, mark, panels }: StepChart): Figure {
  const series = [...new Set(panels.flatMap(({ points }) => points.map((point) => point.series)))];
  const colours = Object.values(COLOURS);
  if (series.length > colours.length)
    throw new Error(`The chart has ${series.length} series, but there are only ${colours.length} colours.`);
  const keys = series.map((label, i) => ({ label, colour: colours[i]!, as: "line" as const }));
  const linePanels = panels.map(({ y, points }) =>
    panel({
      height: 300,
      x: xAxis("optimizer step"),
      y: { ...yAxis(y), zero: true, nice: true },
      color: { domain: series, range: colours.slice(0, series.length) },
      marks: [
        Plot.ruleY([0]),
        // Earlier series are drawn wider: where lines coincide, the lower one still shows at the edges.
        ...series.map((name, i) =>
          Plot.line(
            points.filter((point) => point.series === name),
            {
              x: "step",
              y: "value",
              stroke: "series",
              curve: "step-after",
              strokeWidth: 2 + 1.75 * (series.length - 1 - i),
              ariaDescription: name,
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
  return figure({ name, title, caption }, [...keys, { label: mark, colour: "currentColor", as: "dot" }], linePanels);
}
