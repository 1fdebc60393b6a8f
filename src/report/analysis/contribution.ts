import * as Plot from "@observablehq/plot";
import type { Contribution } from "../../analysis/contribution";
import { COLOURS, figure, panel, xAxis, yAxis } from "../svg";
import type { Figure, Key, Panel } from "../svg";
import { byteUnit } from "../units";

interface Point {
  readonly layer: number;
  readonly value: number;
}

/** The metric and the peak memory of runs with a single adapter, by its layer. A dashed line shows the run with all. */
export function contributionFigure(runs: readonly Contribution[], metric: string): Figure {
  const single = runs.filter(({ layer }) => layer !== undefined);
  const all = runs.find(({ layer }) => layer === undefined);
  const points = (valueOf: (run: Contribution) => number): Point[] =>
    single.map((run) => ({ layer: run.layer!, value: valueOf(run) }));
  const unit = byteUnit(Math.max(...runs.map(({ peakBytes }) => peakBytes)));
  const score = (run: Contribution): number => run.metrics[metric] ?? NaN;
  const bytes = (run: Contribution): number => run.peakBytes / unit.size;
  const keys: Key[] = [
    { label: "the adapter of one layer alone", colour: COLOURS.blue, as: "dot" },
    ...(all ? [{ label: "all layers' adapters", colour: COLOURS.vermilion, as: "dashes" as const }] : []),
  ];
  return figure(
    {
      name: "contribution",
      title: "What the adapter of a single layer contributes",
      caption:
        "One run for every layer, with no other adapter. The layer determines what is saved for the backward pass.",
    },
    keys,
    [
      chart(points(score), all && score(all), metric, { zero: false, percent: metric !== "loss" }),
      chart(points(bytes), all && bytes(all), `peak GPU memory (${unit.name})`, { zero: true, percent: false }),
    ],
  );
}

function chart(
  points: readonly Point[],
  allLayers: number | undefined,
  label: string,
  { zero, percent }: { readonly zero: boolean; readonly percent: boolean },
): Panel {
  const domain = points.map(({ layer }) => layer);
  return panel({
    height: 250,
    x: { ...xAxis("layer of the adapter"), type: "point", domain },
    y: { ...yAxis(label), zero, nice: true, ...(percent && { tickFormat: ".3~g" }) },
    marks: [
      Plot.line(points, { x: "layer", y: "value", stroke: COLOURS.blue, strokeOpacity: 0.5, strokeWidth: 2 }),
      Plot.dot(points, { x: "layer", y: "value", fill: COLOURS.blue, r: 6 }),
      Plot.ruleY(allLayers === undefined ? [] : [allLayers], {
        stroke: COLOURS.vermilion,
        strokeWidth: 2,
        strokeDasharray: "6 4",
      }),
    ],
  });
}
