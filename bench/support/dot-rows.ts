import * as Plot from "@observablehq/plot";
import { COLOURS, figure, FONT, panel, textWidth, xAxis } from "../../src/report/svg";
import type { Figure } from "../../src/report/svg";

/** One row of a chart: its label, and a value for each series that has one. */
export interface DotRow {
  readonly label: string;
  readonly values: Readonly<Record<string, number | undefined>>;
}

export interface DotChart {
  readonly name: string;
  readonly title: string;
  readonly caption: string;
  /** Axis label, unit included. */
  readonly x: string;
  readonly isLogarithmic?: boolean;
  /** Vertical lines at values of x, with their labels. */
  readonly rules?: readonly { readonly at: number; readonly label: string }[];
  readonly rows: readonly DotRow[];
}

const ROW_HEIGHT = 22;

/** Draws rows of labelled dots, in one colour for each series. @throws Error for more series than colours. */
export function dotRows({ name, title, caption, x, isLogarithmic = false, rules = [], rows }: DotChart): Figure {
  const series = [...new Set(rows.flatMap(({ values }) => Object.keys(values)))];
  const colours = Object.values(COLOURS);
  if (series.length > colours.length)
    throw new Error(`The chart has ${series.length} series, but there are only ${colours.length} colours.`);
  const dots = rows.flatMap(({ label, values }) =>
    Object.entries(values).flatMap(([name, value]) => (value === undefined ? [] : [{ label, series: name, value }])),
  );
  const dotPanel = panel({
    height: rows.length * ROW_HEIGHT + 70,
    marginLeft: Math.max(...rows.map(({ label }) => textWidth(label, FONT.size))) * 0.92 + 16,
    x: { ...xAxis(x), type: isLogarithmic ? "log" : "linear", grid: true, ...(isLogarithmic ? {} : { zero: true }) },
    y: { domain: rows.map(({ label }) => label), label: null, type: "point", padding: 0.6 },
    color: { domain: series, range: colours.slice(0, series.length) },
    marks: [
      Plot.gridY({ strokeOpacity: 0.08 }),
      Plot.ruleX(
        rules.map(({ at }) => at),
        { stroke: "currentColor", strokeDasharray: "5 4" },
      ),
      Plot.text(rules, { x: "at", text: "label", frameAnchor: "top", dy: -14, fill: "currentColor" }),
      Plot.dot(dots, { x: "value", y: "label", fill: "series", r: 5 }),
    ],
  });
  const keys = series.map((label, i) => ({ label, colour: colours[i]!, as: "dot" as const }));
  return figure({ name, title, caption }, keys, [dotPanel]);
}
