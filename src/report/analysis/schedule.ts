import * as Plot from "@observablehq/plot";
import type { FreezeSchedule } from "../../analysis/freeze-schedule";
import { COLOURS, figure, MARGINS, panel, xAxis, yAxis } from "../svg";
import type { Figure, Key, Panel } from "../svg";

/** A freezing schedule, and what is known about it. */
export interface SchedulePlan {
  readonly schedule: FreezeSchedule;
  readonly epochs: number;
  readonly stepsPerEpoch: number;
  /** Whether the schedule was computed from given scores. Without them only the level is drawn. */
  readonly hasScores: boolean;
  /** Whether it is known which layers freeze: from scores, or because the policy needs none. */
  readonly showsLayers: boolean;
}

/** The level of the policy (such as SAFE's threshold) by epoch, and when the adapter of each layer freezes. */
export function scheduleFigure(plan: SchedulePlan): Figure {
  const { schedule, hasScores, showsLayers } = plan;
  const { levelName, frozenAt } = schedule;
  const frozen = frozenAt.filter((step) => step !== undefined).length;
  const keys: Key[] = [
    ...(levelName === undefined ? [] : [{ label: levelName, colour: COLOURS.vermilion, as: "line" as const }]),
    ...(hasScores && levelName === "threshold"
      ? [{ label: "score of the layer numbered", colour: COLOURS.blue, as: "line" as const }]
      : []),
    ...(showsLayers ? [{ label: "live", colour: COLOURS.blue, as: "area" as const }] : []),
    ...(showsLayers ? [{ label: "frozen", colour: "currentColor", as: "cell" as const }] : []),
  ];
  return figure(
    {
      name: "schedule",
      title: `Freezing schedule of ${String(schedule.record["name"])}`,
      caption: showsLayers
        ? `${frozen} of ${frozenAt.length} layers' adapters freeze${hasScores ? " with these scores" : ""}.`
        : "Without scores, only the level that they would be compared with is drawn.",
    },
    keys,
    [...(levelName === undefined ? [] : [levelPanel(plan, levelName)]), ...(showsLayers ? [mapPanel(plan)] : [])],
  );
}

function levelPanel({ schedule, epochs, hasScores }: SchedulePlan, name: string): Panel {
  const { moments, frozenAt } = schedule;
  const scores =
    hasScores && name === "threshold"
      ? moments.flatMap(({ epoch, step, scores: layerScores }) =>
          layerScores.map((score, layer) => ({ epoch, score, layer, isLive: step <= (frozenAt[layer] ?? Infinity) })),
        )
      : [];
  return panel({
    height: 260,
    x: { ...xAxis("epoch"), domain: [0, epochs] },
    y: { ...yAxis(name === "threshold" ? "importance (1 − CKA)" : name), zero: true, nice: true },
    marks: [
      Plot.ruleY([0]),
      Plot.line(
        scores.filter(({ isLive }) => isLive),
        { x: "epoch", y: "score", z: "layer", stroke: COLOURS.blue, strokeOpacity: 0.6, strokeWidth: 1.5 },
      ),
      Plot.text(scores, Plot.selectFirst({ x: "epoch", y: "score", z: "layer", text: "layer", dx: -8, fontSize: 10 })),
      Plot.line(moments, { x: "epoch", y: "level", stroke: COLOURS.vermilion, strokeWidth: 2.5 }),
    ],
  });
}

function mapPanel({ schedule, epochs, stepsPerEpoch }: SchedulePlan): Panel {
  const layers = schedule.frozenAt.length;
  const bars = schedule.frozenAt.map((step, layer) => {
    return { layer, frozen: Math.min(epochs, (step ?? Infinity) / stepsPerEpoch) };
  });
  const rowHeight = Math.min(26, Math.max(8, 320 / layers));
  const every = Math.ceil(layers / 16);
  return panel({
    height: layers * rowHeight + MARGINS.marginTop + MARGINS.marginBottom,
    x: { ...xAxis("epoch"), domain: [0, epochs] },
    y: {
      label: "layer",
      labelArrow: "none",
      domain: bars.map(({ layer }) => layer).reverse(),
      padding: 0.12,
      ticks: bars.map(({ layer }) => layer).filter((layer) => layer % every === 0),
    },
    marks: [
      Plot.barX(bars, { x1: 0, x2: "frozen", y: "layer", fill: COLOURS.blue }),
      Plot.barX(bars, { x1: "frozen", x2: epochs, y: "layer", fill: "currentColor", fillOpacity: 0.2 }),
    ],
  });
}
