import * as Plot from "@observablehq/plot";
import type { Landscape } from "../../analysis/landscape";
import { ramp, SCHEME } from "../ramp";
import { COLOURS, figure, FONT, pairs, panel, WIDTH, xAxis } from "../svg";
import type { Figure, Panel } from "../svg";
import { significant } from "../units";
import type { Named } from "./named";

import { surfacePanel } from "./surface";

/** Number of contour levels. */
const LEVELS = 14;

/** The loss around each method's solution, as contours above and as a surface below, all on one colour scale. */
export function landscapeFigure(planes: readonly Named<Landscape>[], lossName: string): Figure {
  const values = planes.flatMap(({ result }) => result.losses.flat()).filter(Number.isFinite);
  const domain = [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))] as const;
  const rows = pairs(planes).flatMap((pair) => {
    const width = WIDTH / 2;
    return [
      pair.map((plane) => contours(plane, domain, width)),
      pair.map((plane) => surfacePanel(plane, domain, width)),
    ];
  });
  const centres = planes.map(({ name, result }) => `${name} ${significant(result.centre)}`);
  return figure(
    {
      name: "landscape",
      title: "The loss around the solution",
      caption: `Two random directions; each row has the norm of the weights' row. Loss in the middle: ${centres.join(", ")}.`,
    },
    [{ label: "the solution", colour: COLOURS.vermilion, as: "dot" }],
    [ramp({ type: "linear", domain }, lossName), ...rows],
  );
}

function contours(
  { name, result: { coordinates, losses } }: Named<Landscape>,
  [least, most]: readonly [number, number],
  width: number,
): Panel {
  const points = coordinates.length;
  const span = coordinates.at(-1)!;
  // The values of a grid belong to the centres of its cells.
  const edge = span * (1 + 1 / (points - 1));
  const thresholds = Array.from({ length: LEVELS }, (_, i) => least + ((most - least) * i) / LEVELS);
  const grid = { width: points, height: points, x1: -edge, y1: -edge, x2: edge, y2: edge, thresholds, clip: true };
  return panel({
    width,
    height: width - 20,
    marginTop: 34,
    x: { ...xAxis("along the first direction"), domain: [-span, span], ticks: 5 },
    y: { ...xAxis("along the second direction"), domain: [-span, span], ticks: 5 },
    color: { domain: [least, most], scheme: SCHEME },
    marks: [
      Plot.contour(losses.flat(), {
        ...grid,
        fill: Plot.identity,
        stroke: "white",
        strokeWidth: 0.5,
        strokeOpacity: 0.6,
      }),
      Plot.dot([[0, 0]], { fill: COLOURS.vermilion, stroke: "white", r: 5 }),
      Plot.text([name], { frameAnchor: "top", dy: -20, fontSize: FONT.size, fontWeight: "bold" }),
    ],
  });
}
