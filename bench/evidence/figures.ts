import * as Plot from "@observablehq/plot";
import type { RunResult } from "../../src/cli/study/run";
import { COLOURS, figure, panel, xAxis, yAxis } from "../../src/report/svg";
import type { Figure, Panel } from "../../src/report/svg";
import type { StudyEvidence } from "./study";

const MEGA = 1e6;

/** Test score against average memory and against FLOPs, a dot for each method with its number in the tables. */
export function tradeFigure({ name, study, rows }: StudyEvidence, task: string): Figure {
  const own = rows.filter((row) => row.task === task);
  const metric = Object.keys(own[0]!.metrics)[0]!;
  const points = own.map((row) => {
    const { mean, deviation = 0 } = row.metrics[metric]!;
    const number = 1 + study.methods.findIndex((method) => method.name === row.method);
    const memory = row.averageBytes / MEGA;
    return { number, mean, low: mean - deviation, high: mean + deviation, memory, flops: row.flops / 1e12 };
  });
  const chart = (x: "memory" | "flops", label: string): Panel =>
    panel({
      height: 330,
      width: 430,
      x: { ...xAxis(label), nice: true },
      y: { ...yAxis(`${metric} on the test set`), nice: true },
      marks: [
        Plot.ruleX(points, { x, y1: "low", y2: "high", stroke: COLOURS.sky, strokeWidth: 2 }),
        Plot.dot(points, { x, y: "mean", r: 9, fill: COLOURS.blue }),
        Plot.text(points, { x, y: "mean", text: "number", fill: "white", fontWeight: "bold", fontSize: 11 }),
      ],
    });
  const labels = {
    name: fileName(name, task, "trade"),
    title: `${task}: score against memory and computation`,
    caption: "Means over the seeds, with their sample deviation. Numbers are those of the methods in the table.",
  };
  return figure(labels, [], [[chart("memory", "average GPU memory (MB)"), chart("flops", "FLOPs of all steps (T)")]]);
}

/** For each method that freezes layers: the share of seeds in which a layer is frozen, by step. */
export function freezeFigure({ name, study, runs }: StudyEvidence, task: string): Figure | undefined {
  const layers = layersOf(runs.flatMap((run) => (run.task === task ? [run.result] : [])));
  const panels = study.methods.flatMap(({ name: method }) => {
    const results = runs.flatMap((run) => (run.task === task && run.method === method ? [run.result] : []));
    const cells = frozenShares(results);
    if (cells.length === 0) return [];
    const chart = panel({
      height: 150,
      x: { ...xAxis("optimizer step"), domain: [0, results[0]!.steps] },
      y: { ...yAxis(`layer, ${method}`), labelAnchor: "top", type: "band", domain: [...layers].reverse() },
      marks: [
        Plot.rect(cells, {
          x1: "from",
          x2: "to",
          y: "layer",
          fill: COLOURS.blue,
          fillOpacity: "share",
          ariaDescription: "share of seeds in which the layer is frozen",
        }),
        Plot.frame({ strokeOpacity: 0.3 }),
      ],
    });
    return [chart];
  });
  if (panels.length === 0) return undefined;
  const labels = {
    name: fileName(name, task, "freezes"),
    title: `${task}: which layers are frozen, and when`,
    caption: "The darker, the more of the seeds.",
  };
  return figure(labels, [{ label: "frozen in all seeds", colour: COLOURS.blue, as: "area" }], panels);
}

/** All layers up to the highest that ever froze. */
const layersOf = (results: readonly RunResult[]): number[] => {
  const frozen = results.flatMap(({ freezes }) => freezes.flatMap(({ layers }) => layers));
  return Array.from({ length: 1 + Math.max(...frozen, 0) }, (_, layer) => layer);
};

/** Spans of steps in which as large a share of the runs has a layer frozen. */
function frozenShares(results: readonly RunResult[]) {
  const froze = results.flatMap(({ freezes }) =>
    freezes.flatMap(({ step, layers }) => layers.map((layer) => ({ layer, step }))),
  );
  return layersOf(results).flatMap((layer) => {
    const steps = froze.flatMap((each) => (each.layer === layer ? [each.step] : [])).sort((a, b) => a - b);
    return steps.map((from, i) => ({
      layer,
      from,
      to: steps[i + 1] ?? results[0]!.steps,
      share: (i + 1) / results.length,
    }));
  });
}

/** Colours of curves; as many methods are drawn. */
const CURVE_COLOURS = [COLOURS.blue, COLOURS.vermilion, COLOURS.green, COLOURS.orange, COLOURS.pink, COLOURS.sky];

/** Loss and memory by step, means over the seeds, of the baseline and of methods that freeze the same adapter. */
export function curveFigure({ name, study, runs }: StudyEvidence, task: string): Figure {
  const baseline = study.methods.find((method) => method.name === study.baseline)!;
  const drawn = study.methods
    .filter(({ adapter }) => JSON.stringify(adapter) === JSON.stringify(baseline.adapter))
    .slice(0, CURVE_COLOURS.length);
  const colours = { domain: drawn.map((method) => method.name), range: CURVE_COLOURS };
  const curves = (of: (result: RunResult, step: number) => number | undefined, steps: readonly number[]) =>
    drawn.flatMap(({ name: method }) => {
      const results = runs.flatMap((run) => (run.task === task && run.method === method ? [run.result] : []));
      return steps.flatMap((step) => {
        const values = results.flatMap((result) => of(result, step) ?? []);
        return values.length === 0 ? [] : [{ method, step, value: values.reduce((a, b) => a + b, 0) / values.length }];
      });
    });
  const { result } = runs.find((run) => run.task === task)!;
  const lossSteps = result.losses.map(([step]) => step);
  const everyStep = Array.from({ length: result.steps }, (_, i) => i + 1);
  const losses = curves(({ losses: points }, step) => points.find(([at]) => at === step)?.[1], lossSteps);
  const memory = curves(({ memory: points }, step) => points.findLast(([at]) => at <= step)?.[1], everyStep);
  const chart = (points: typeof losses, label: string, curve: "linear" | "step-after"): Panel =>
    panel({
      height: 260,
      x: { ...xAxis("optimizer step"), domain: [0, result.steps] },
      y: { ...yAxis(label), nice: true, zero: true },
      color: colours,
      marks: [Plot.line(points, { x: "step", y: "value", stroke: "method", strokeWidth: 2, curve })],
    });
  return figure(
    {
      name: fileName(name, task, "curves"),
      title: `${task}: loss and memory over the steps`,
      caption:
        "Means over the seeds: the training loss in stretches of a fiftieth of the run, and all GPU bytes of the ledger.",
    },
    drawn.map((method, i) => ({ label: method.name, colour: CURVE_COLOURS[i]!, as: "line" as const })),
    [
      chart(losses, "training loss", "linear"),
      chart(
        memory.map((point) => ({ ...point, value: point.value / MEGA })),
        "GPU memory (MB)",
        "step-after",
      ),
    ],
  );
}

const fileName = (study: string, task: string, what: string): string =>
  `${study}-${task.toLowerCase().replace(/[^a-z0-9]+/g, "-")}-${what}`;
