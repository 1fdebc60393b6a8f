import * as Plot from "@observablehq/plot";
import { freezeRules, FREEZE_KEY } from "../freeze-marks";
import type { RunRecord } from "../record";
import { COLOURS, figure, panel, xAxis, yAxis } from "../svg";
import type { Figure } from "../svg";
import { extremes } from "../thin";
import { showBytes } from "../units";

/** The bytes that a device sent and received in each step; undefined where it trained alone. */
export function wireFigure({ steps, freezes }: RunRecord): Figure | undefined {
  const total = steps.at(-1)?.step ?? 0;
  const sent = steps.flatMap(({ step, wire }) => (wire ? [{ step, value: wire.sent + wire.received }] : []));
  if (sent.length === 0) return undefined;
  const all = sent.reduce((sum, { value }) => sum + value, 0);
  const unit = 1000;
  return figure(
    {
      name: "wire",
      title: "Bytes between devices",
      caption: `Payload that this device sent and received in each step, ${showBytes(all)} in total. What freezes is not sent.`,
    },
    [{ label: "sent and received", colour: COLOURS.blue, as: "line" }, ...(freezes.length > 0 ? [FREEZE_KEY] : [])],
    [
      panel({
        height: 220,
        x: { ...xAxis("optimizer step"), domain: [0, total] },
        y: { ...yAxis("per step (kB)"), zero: true, nice: true },
        marks: [
          Plot.ruleY([0]),
          Plot.line(extremes(sent.map(({ step, value }) => ({ step, value: value / unit }))), {
            x: "step",
            y: "value",
            stroke: COLOURS.blue,
            strokeWidth: 2,
            ariaDescription: "bytes per step",
          }),
          ...freezeRules(freezes, total),
        ],
      }),
    ],
  );
}
