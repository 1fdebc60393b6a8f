import * as Plot from "@observablehq/plot";
import { freezeRules, FREEZE_KEY } from "../freeze-marks";
import type { RunRecord } from "../record";
import { COLOURS, figure, panel, xAxis, yAxis } from "../svg";
import type { Figure } from "../svg";
import { extremes, quantileOf, runningMedian } from "../thin";
import type { Sample } from "../thin";
import { showSeconds, significant } from "../units";

/** The learning rate by step. */
export function learningRateFigure({ steps }: RunRecord): Figure {
  const total = steps.at(-1)?.step ?? 0;
  const rates = steps.map(({ step, learningRate }) => ({ step, value: learningRate }));
  const largest = Math.max(...rates.map(({ value }) => value));
  return figure(
    {
      name: "learning-rate",
      title: "Learning rate",
      caption: `The optimizer's learning rate at each step; at most ${significant(largest)}.`,
    },
    [],
    [
      panel({
        height: 220,
        x: { ...xAxis("optimizer step"), domain: [0, total] },
        y: { ...yAxis("learning rate"), zero: true, nice: true, tickFormat: significant },
        marks: [
          Plot.ruleY([0]),
          Plot.line(extremes(rates), {
            x: "step",
            y: "value",
            stroke: COLOURS.green,
            strokeWidth: 2.5,
            ariaDescription: "learning rate",
          }),
        ],
      }),
    ],
  );
}

/** Share of the steps that determines the range: the few that compile pipelines or score adapters take far longer. */
const TYPICAL_SHARE = 0.97;

/** The time of each step, and its running median: single times go up and down with what else the host does. */
export function timeFigure({ steps, freezes, seconds }: RunRecord): Figure {
  const total = steps.at(-1)?.step ?? 0;
  const times = steps.map((step) => ({ step: step.step, value: step.seconds }));
  const values = times.map(({ value }) => value);
  const longest = Math.max(...values);
  const typical = 1.25 * quantileOf(values, TYPICAL_SHARE);
  const top = longest > 2 * typical ? typical : longest;
  const cut = values.filter((value) => value > top).length;
  const asMilliseconds = top < 1;
  const scale = asMilliseconds ? 1000 : 1;
  const shown = (samples: readonly Sample[]): Sample[] =>
    extremes(samples.map(({ step, value }) => ({ step, value: Math.min(value, top) * scale })));
  const cutSteps = cut === 1 ? "One longer step is" : `${cut} longer steps are`;
  const cutNote = `${cutSteps} cut off at the top (up to ${showSeconds(longest)}, to compile pipelines or score adapters).`;
  return figure(
    {
      name: "time",
      title: "Time per step",
      caption: `Wall-clock time of each step, ${showSeconds(seconds)} in total.${cut > 0 ? ` ${cutNote}` : ""}`,
    },
    [
      { label: "time of a step", colour: COLOURS.sky, as: "line" },
      { label: "median of 11 steps", colour: COLOURS.blue, as: "line" },
      ...(freezes.length > 0 ? [FREEZE_KEY] : []),
    ],
    [
      panel({
        height: 260,
        x: { ...xAxis("optimizer step"), domain: [0, total] },
        y: { ...yAxis(`time per step (${asMilliseconds ? "ms" : "s"})`), domain: [0, top * scale], nice: true },
        marks: [
          Plot.ruleY([0]),
          Plot.line(shown(times), {
            x: "step",
            y: "value",
            stroke: COLOURS.sky,
            strokeWidth: 1,
            ariaDescription: "time per step",
          }),
          Plot.line(shown(runningMedian(times)), {
            x: "step",
            y: "value",
            stroke: COLOURS.blue,
            strokeWidth: 2.5,
            ariaDescription: "running median of the time per step",
          }),
          ...freezeRules(freezes, total),
        ],
      }),
    ],
  );
}
