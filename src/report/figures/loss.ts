import * as Plot from "@observablehq/plot";
import { freezeRules, FREEZE_KEY } from "../freeze-marks";
import type { RunRecord } from "../record";
import { COLOURS, figure, panel, xAxis, yAxis } from "../svg";
import type { Figure, Key, Panel } from "../svg";
import { extremes, smoothed } from "../thin";
import type { Sample } from "../thin";

const LOWER_IS_BETTER = ["loss", "perplexity"];

/** The loss by step, and the first metric at each evaluation. */
export function lossFigure(record: RunRecord): Figure {
  const total = record.steps.at(-1)?.step ?? 0;
  const metric = metricOf(record);
  const values = metric === undefined ? [] : metricValues(record, metric);
  const direction = metric !== undefined && LOWER_IS_BETTER.includes(metric) ? "lower is better" : "higher is better";
  const keys: Key[] = [
    { label: "loss of each step", colour: COLOURS.sky, as: "line" },
    { label: "moving average", colour: COLOURS.blue, as: "line" },
    ...(values.length > 0
      ? [{ label: `${metric} on the dev set`, colour: COLOURS.vermilion, as: "dot" } as const]
      : []),
    ...(record.freezes.length > 0 ? [FREEZE_KEY] : []),
  ];
  const panels = [lossPanel(record, total)];
  if (values.length > 0) panels.push(metricPanel(values, `${metric} (${direction})`, total));
  return figure(
    {
      name: "loss",
      title: "Loss and metric",
      caption: `Training loss of ${record.steps.length} optimizer steps${
        values.length > 0
          ? `, and the dev set's ${metric} at ${values.length === 1 ? "the end" : `${values.length} evaluations`}`
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

/** The first metric of a run, which selects its best evaluation. */
const metricOf = ({ metrics, evaluations }: RunRecord): string | undefined =>
  Object.keys(metrics)[0] ?? Object.keys(evaluations[0]?.metrics ?? {})[0];

/** From the smallest to the largest value; a range around them if they are equal. */
function rangeOf(values: readonly number[]): [number, number] {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const room = most > least ? 0 : Math.max(0.01, 0.05 * Math.abs(most));
  return [least - room, most + room];
}

/** Values of a metric by step: those of the evaluations on the way, and that of the run at its end. */
function metricValues({ evaluations, metrics, steps }: RunRecord, metric: string): Sample[] {
  const last = { step: steps.at(-1)?.step ?? 0, value: metrics[metric] ?? NaN };
  const earlier = evaluations
    .filter(({ step }) => step !== last.step)
    .map((evaluation) => ({ step: evaluation.step, value: evaluation.metrics[metric] ?? NaN }));
  return [...earlier, last].filter(({ value }) => Number.isFinite(value));
}

function metricPanel(values: readonly Sample[], label: string, total: number): Panel {
  return panel({
    height: 200,
    x: { ...xAxis("optimizer step"), domain: [0, total] },
    y: { ...yAxis(label), domain: rangeOf(values.map(({ value }) => value)), nice: true, inset: 12 },
    marks: [
      Plot.line(values, {
        x: "step",
        y: "value",
        stroke: COLOURS.vermilion,
        strokeWidth: 2,
        ariaDescription: "metric",
      }),
      Plot.dot(values, { x: "step", y: "value", fill: COLOURS.vermilion, r: 5, ariaDescription: "evaluations" }),
      Plot.text(values.slice(-1), {
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
