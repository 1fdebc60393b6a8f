import * as Plot from "@observablehq/plot";
import { LIFETIMES, sumBytes } from "../../gpu/ledger";
import type { Lifetime } from "../../gpu/ledger";
import { freezeRules, FREEZE_KEY } from "../freeze-marks";
import type { RunRecord, RunStep } from "../record";
import { COLOURS, figure, panel, xAxis, yAxis } from "../svg";
import type { Figure, Key } from "../svg";
import { changes } from "../thin";
import { byteUnit, showBytes } from "../units";

/** Labels and colours of the lifetimes. */
export const LIFETIME_KEYS: Readonly<Record<Lifetime, { readonly label: string; readonly colour: string }>> = {
  weight: { label: "weights", colour: COLOURS.blue },
  state: { label: "adapter, gradients, moments", colour: COLOURS.orange },
  saved: { label: "saved for backward", colour: COLOURS.green },
  scratch: { label: "scratch", colour: COLOURS.pink },
};

/** The GPU memory by step, stacked by lifetime, with freezes marked and the plan's prediction as a line. */
export function memoryFigure({ steps, freezes, peakBytes }: RunRecord): Figure {
  const total = steps.at(-1)?.step ?? 0;
  const unit = byteUnit(Math.max(...steps.map(({ bytes, planned }) => Math.max(sumBytes(bytes), sumBytes(planned)))));
  const rows = changes(steps, ({ bytes, planned }) => JSON.stringify([bytes, planned]));
  const areas = rows.flatMap(({ step, bytes }) =>
    LIFETIMES.map((lifetime) => ({ step, lifetime, value: bytes[lifetime] / unit.size })),
  );
  const line = rows.map(({ step, planned }) => ({ step, value: sumBytes(planned) / unit.size }));
  const keys: Key[] = [
    ...LIFETIMES.map((lifetime) => ({ ...LIFETIME_KEYS[lifetime], as: "area" as const })),
    { label: "predicted by the plan", colour: "currentColor", as: "dashes" },
    ...(freezes.length > 0 ? [FREEZE_KEY] : []),
  ];
  const [first, last] = [steps[0], steps.at(-1)];
  const bytesAfter = (step: RunStep | undefined): string => showBytes(step ? sumBytes(step.bytes) : 0);
  return figure(
    {
      name: "memory",
      title: "GPU memory by lifetime",
      caption:
        `Bytes that the ledger counts after each step, and the plan's prediction: ${bytesAfter(first)} after the first ` +
        `step, ${bytesAfter(last)} after the last; ${showBytes(peakBytes)} at the peak of the run.`,
    },
    keys,
    [
      panel({
        height: 340,
        x: { ...xAxis("optimizer step"), domain: [0, total] },
        y: { ...yAxis(`GPU memory (${unit.name})`), nice: true, zero: true },
        color: { domain: [...LIFETIMES], range: LIFETIMES.map((lifetime) => LIFETIME_KEYS[lifetime].colour) },
        marks: [
          Plot.areaY(areas, {
            x: "step",
            y: "value",
            z: "lifetime",
            fill: "lifetime",
            order: [...LIFETIMES],
            curve: "step-after",
            fillOpacity: 0.9,
            ariaDescription: "memory by lifetime",
          }),
          Plot.line(line, {
            x: "step",
            y: "value",
            stroke: "currentColor",
            strokeWidth: 2,
            strokeDasharray: "6 4",
            curve: "step-after",
            ariaDescription: "planned memory",
          }),
          Plot.ruleY([0]),
          ...freezeRules(freezes, total),
        ],
      }),
    ],
  );
}
