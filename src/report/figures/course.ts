import * as Plot from "@observablehq/plot";
import { freezeRules, FREEZE_KEY } from "../freeze-marks";
import type { RunRecord } from "../record";
import { COLOURS, figure, panel, xAxis, yAxis } from "../svg";
import type { Figure } from "../svg";
import { extremes, quantileOf } from "../thin";
import { showSeconds, significant } from "../units";

/** Learning rate over steps. */
export function learningRateFigure({ steps }: RunRecord): Figure {
  const total = steps.at(-1)?.step ?? 0;
  const rates = steps.map(({ step, learningRate }) => ({ step, value: learningRate }));
  const most = Math.max(...rates.map(({ value }) => value));
  return figure(
    {
      name: "learning-rate",
      title: "Learning rate",
      caption: `The optimizer's learning rate at each step; at most ${significant(most)}.`,
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

/** Steps that took far longer than others (pipelines are made, a policy scores) would flatten the rest. */
const USUAL_SHARE = 0.97;

/** Time of each step. */
export function timeFigure({ steps, freezes, seconds }: RunRecord): Figure {
  const total = steps.at(-1)?.step ?? 0;
  const times = steps.map((step) => ({ step: step.step, value: step.seconds }));
  const most = Math.max(...times.map(({ value }) => value));
  const usual =
    1.25 *
    quantileOf(
      times.map(({ value }) => value),
      USUAL_SHARE,
    );
  const top = most > 2 * usual ? usual : most;
  const above = times.filter(({ value }) => value > top);
  const asMilliseconds = top < 1;
  const scale = asMilliseconds ? 1000 : 1;
  const points = times.map(({ step, value }) => ({ step, value: Math.min(value, top) * scale }));
  const many = above.length === 1 ? "One longer one" : `${above.length} longer ones`;
  const longer = `${many} (up to ${showSeconds(most)}: pipelines are made, or a policy scores) cut at the top.`;
  return figure(
    {
      name: "time",
      title: "Time per step",
      caption: `Wall-clock time of each step, ${showSeconds(seconds)} in all.${above.length > 0 ? ` ${longer}` : ""}`,
    },
    [{ label: "time of a step", colour: COLOURS.blue, as: "line" }, ...(freezes.length > 0 ? [FREEZE_KEY] : [])],
    [
      panel({
        height: 260,
        x: { ...xAxis("optimizer step"), domain: [0, total] },
        y: { ...yAxis(`time per step (${asMilliseconds ? "ms" : "s"})`), domain: [0, top * scale], nice: true },
        marks: [
          Plot.ruleY([0]),
          Plot.line(extremes(points), {
            x: "step",
            y: "value",
            stroke: COLOURS.blue,
            ariaDescription: "time per step",
          }),
          ...freezeRules(freezes, total),
        ],
      }),
    ],
  );
}
