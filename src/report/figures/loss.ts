import * as Plot from "@observablehq/plot";
import { freezeRules, FREEZE_KEY } from "../freeze-marks";
import type { RunRecord } from "../record";
import { COLOURS, figure, panel, xAxis, yAxis } from "../svg";
import type { Figure, Key, Panel } from "../svg";
import { extremes, smoothed } from "../thin";

const LESS_IS_BETTER = ["loss", "perplexity"];

/** Loss over steps, and what the run is judged by at each evaluation. */
export function lossFigure(record: RunRecord): Figure {
  const total = record.steps.at(-1)?.step ?? 0;
  const metric = metricOf(record);
  const judged = metric === undefined ? [] : evaluated(record, metric);
  const sense = metric !== undefined && LESS_IS_BETTER.includes(metric) ? "lower is better" : "higher is better";
  const keys: Key[] = [
    { label: "loss of each step", colour: COLOURS.sky, as: "line" },
    { label: "moving average", colour: COLOURS.blue, as: "line" },
    ...(judged.length > 0
      ? [{ label: `${metric} on the dev set`, colour: COLOURS.vermilion, as: "dot" } as const]
      : []),
    ...(record.freezes.length > 0 ? [FREEZE_KEY] : []),
  ];
  const panels = [lossPanel(record, total)];
  if (metric !== undefined && judged.length > 0) panels.push(metricPanel(judged, `${metric} (${sense})`, total));
  return figure(
    {
      name: "loss",
      title: "Loss and metric",
      caption: `Training loss of ${record.steps.length} optimizer steps${
        judged.length > 0
          ? `, and the dev set's ${metric} at ${judged.length === 1 ? "its end" : `${judged.length} evaluations`}`
          : ""
      }.`,
    },
    keys,
    panels,
  );
}

function lossPanel({ steps, freezes, model }: RunRecord, total: number): Panel {
  const unit = model.task === "regression" ? "mean squared error" : "nats";
  const losses = steps.map(({ step, loss }) => ({ step, value: loss }));
  return panel({
    height: 300,
    x: { ...xAxis("optimizer step"), domain: [0, total] },
    y: { ...yAxis(`training loss (${unit})`), zero: true, nice: true },
    marks: [
      Plot.ruleY([0]),
      Plot.line(extremes(losses), {
        x: "step",
        y: "value",
        stroke: COLOURS.sky,
        strokeWidth: 1,
        ariaDescription: "loss",
      }),
      Plot.line(extremes(smoothed(losses)), {
        x: "step",
        y: "value",
        stroke: COLOURS.blue,
        strokeWidth: 2.5,
        ariaDescription: "smoothed loss",
      }),
      ...freezeRules(freezes, total),
    ],
  });
}

/** The metric that the run is judged by: the first one. */
export const metricOf = ({ metrics, evaluations }: RunRecord): string | undefined =>
  Object.keys(metrics)[0] ?? Object.keys(evaluations[0]?.metrics ?? {})[0];

interface Judged {
  readonly step: number;
  readonly value: number;
}

/** From the least to the greatest; of a single value, a little around it. */
function around(values: readonly number[]): [number, number] {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const room = most > least ? 0 : Math.max(0.01, 0.05 * Math.abs(most));
  return [least - room, most + room];
}

/** Values of a metric by step; the run's own is that of its end. */
function evaluated({ evaluations, metrics, steps }: RunRecord, metric: string): Judged[] {
  const found = evaluations.map((one) => ({ step: one.step, value: one.metrics[metric] ?? NaN }));
  const last = { step: steps.at(-1)?.step ?? 0, value: metrics[metric] ?? NaN };
  return [...found.filter(({ step }) => step !== last.step), last].filter(({ value }) => Number.isFinite(value));
}

function metricPanel(judged: readonly Judged[], label: string, total: number): Panel {
  return panel({
    height: 200,
    x: { ...xAxis("optimizer step"), domain: [0, total] },
    y: { ...yAxis(label), domain: around(judged.map(({ value }) => value)), nice: true, inset: 12 },
    marks: [
      Plot.line(judged, {
        x: "step",
        y: "value",
        stroke: COLOURS.vermilion,
        strokeWidth: 2,
        ariaDescription: "metric",
      }),
      Plot.dot(judged, { x: "step", y: "value", fill: COLOURS.vermilion, r: 5, ariaDescription: "evaluations" }),
      Plot.text(judged.slice(-1), {
        x: "step",
        y: "value",
        text: ({ value }: { value: number }) => value.toFixed(4),
        fill: "currentColor",
        textAnchor: "end",
        dx: -10,
        dy: -10,
      }),
    ],
  });
}
