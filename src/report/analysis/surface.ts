import * as Plot from "@observablehq/plot";
import type { Landscape } from "../../analysis/landscape";
import { FONT, panel } from "../svg";
import type { Panel } from "../svg";
import { significant } from "../units";
import type { Named } from "./named";
import { SCHEME } from "../ramp";

type Point = [x: number, y: number];

/** Direction of view: angle about the vertical axis and tilt. The box has sides of length 2 and this height. */
const [TURN, TILT, HEIGHT] = [Math.PI / 5, Math.PI / 5, 1.4];

/** Parallel projection of a point with coordinates from -1 to 1 and a height from 0 to 1. */
function project(a: number, b: number, height: number): Point {
  const across = a * Math.cos(TURN) - b * Math.sin(TURN);
  const away = a * Math.sin(TURN) + b * Math.cos(TURN);
  return [across, away * Math.sin(TILT) + height * HEIGHT * Math.cos(TILT)];
}

/** A landscape as a surface. Its patches are drawn from the back to the front, so that near ones cover far ones. */
export function surfacePanel(
  { result: { coordinates, losses } }: Named<Landscape>,
  [least, most]: readonly [number, number],
  width: number,
): Panel {
  const span = coordinates.at(-1)!;
  const heightOf = (loss: number): number => (loss - least) / Math.max(most - least, Number.MIN_VALUE);
  const corner = (i: number, j: number): Corner => {
    const loss = losses[j]?.[i] ?? NaN;
    return { point: project(coordinates[i]! / span, coordinates[j]! / span, heightOf(loss)), loss };
  };
  const cells = Array.from({ length: coordinates.length - 1 }, (_, i) => i);
  const depth = ([i, j]: Point): number => i * Math.sin(TURN) + j * Math.cos(TURN);
  const patches = cells
    .flatMap((i) => cells.map((j): Point => [i, j]))
    .sort((a, b) => depth(b) - depth(a))
    .map(([i, j]) => [corner(i, j), corner(i + 1, j), corner(i + 1, j + 1), corner(i, j + 1)])
    .filter((corners) => corners.every(({ loss }) => Number.isFinite(loss)))
    .map((corners) => polygon(corners));
  return panel({
    width,
    height: 0.85 * width,
    marginTop: 0,
    marginBottom: 8,
    marginLeft: 24,
    marginRight: 64,
    projection: { type: "reflect-y", domain: { type: "MultiPoint", coordinates: frame() }, inset: 22 },
    color: { domain: [least, most], scheme: SCHEME },
    // The surface is drawn last, over the axes behind it.
    marks: [
      labels(span, [least, most]),
      Plot.geo(axes(), { stroke: "currentColor", strokeWidth: 1, strokeOpacity: 0.5 }),
      Plot.geo(patches, {
        fill: ({ properties }: ReturnType<typeof polygon>) => properties.loss,
        stroke: "white",
        strokeWidth: 0.4,
        strokeOpacity: 0.7,
      }),
    ],
  });
}

/** A corner of a patch on paper, and the loss there. */
interface Corner {
  readonly point: Point;
  readonly loss: number;
}

/** A patch of the surface as GeoJSON, with the mean loss of its corners. */
function polygon(corners: readonly Corner[]) {
  const ring = [...corners, corners[0]!].map(({ point }) => point);
  const loss = corners.reduce((sum, corner) => sum + corner.loss, 0) / corners.length;
  return {
    type: "Feature" as const,
    properties: { loss },
    geometry: { type: "Polygon" as const, coordinates: [ring] },
  };
}

/** The corners of the box around the surface. */
function frame(): Point[] {
  return [-1, 1].flatMap((a) => [-1, 1].flatMap((b) => [0, 1].map((height) => project(a, b, height))));
}

/** The floor of the box, and its vertical edge on the left. */
function axes() {
  const floor = [project(-1, -1, 0), project(1, -1, 0), project(1, 1, 0), project(-1, 1, 0), project(-1, -1, 0)];
  const edge = [project(-1, 1, 0), project(-1, 1, 1)];
  return { type: "MultiLineString" as const, coordinates: [floor, edge] };
}

function labels(span: number, [least, most]: readonly [number, number]): Plot.Markish {
  const at = (point: Point, text: string, dx: number, dy: number) => ({ point, text, dx, dy });
  const texts = [
    at(project(0, -1, 0), "first direction", 20, 22),
    at(project(1, 0, 0), "second direction", 66, 22),
    at(project(-1, -1, 0), significant(-span), -8, 16),
    at(project(1, -1, 0), significant(span), -10, 18),
    at(project(1, -1, 0), significant(-span), 16, 10),
    at(project(1, 1, 0), significant(span), 24, 6),
    at(project(-1, 1, 0), significant(least), -20, 0),
    at(project(-1, 1, 1), significant(most), -20, 0),
    at(project(-1, 1, 0.5), "loss", -20, 0),
  ];
  return texts.map(({ point: [x, y], text, dx, dy }) =>
    Plot.text([text], { x: [x], y: [y], dx, dy, fontSize: FONT.small, fill: "currentColor" }),
  );
}
