import * as Plot from "@observablehq/plot";
import type { LayerSimilarity } from "../../analysis/similarity";
import { ramp, SCHEME } from "../ramp";
import { figure, FONT, MARGINS, panel, WIDTH, xAxis } from "../svg";
import type { Figure, Panel } from "../svg";
import { significant } from "../units";

type Side = "original" | "final";

/** CKA by layer and step as colours: with the original model on the left, with the final model on the right. */
export function similarityFigure(points: readonly LayerSimilarity[]): Figure {
  const values = points.flatMap(({ original, final }) => [...original, ...final]);
  const least = values.reduce((a, b) => Math.min(a, b), 1);
  const domain = [least < 1 ? least : 0, 1] as const;
  const sides = [map(points, "original", domain), map(points, "final", domain)];
  const atEnd = points.at(-1)?.original ?? [];
  const changed = atEnd.indexOf(Math.min(...atEnd));
  return figure(
    {
      name: "similarity",
      title: "How layers' outputs change over training",
      caption: `Linear CKA on one probe batch. At the end, layer ${changed} is the least similar to the original model: ${significant(atEnd[changed] ?? NaN)}.`,
    },
    [],
    [ramp({ type: "linear", domain }, "CKA of a layer's output with that of the compared model"), sides],
  );
}

function map(points: readonly LayerSimilarity[], side: Side, domain: readonly [number, number]): Panel {
  const cells = points.flatMap(({ step, [side]: ckas }) => ckas.map((cka, layer) => ({ step, layer, cka })));
  const layers = points[0]?.[side].length ?? 0;
  const every = Math.ceil(points.length / 7);
  const rowHeight = Math.min(40, Math.max(9, 320 / Math.max(1, layers)));
  return panel({
    width: WIDTH / 2,
    height: layers * rowHeight + MARGINS.marginTop + MARGINS.marginBottom,
    x: {
      ...xAxis("optimizer step"),
      type: "band",
      padding: 0,
      ticks: points.map(({ step }) => step).filter((_, i) => i % every === 0),
    },
    y: {
      label: "layer",
      labelArrow: "none",
      domain: Array.from({ length: layers }, (_, i) => layers - 1 - i),
      padding: 0.06,
    },
    color: { domain: [...domain], scheme: SCHEME, clamp: true },
    marks: [
      Plot.cell(cells, { x: "step", y: "layer", fill: "cka", insetRight: -0.3 }),
      Plot.text([side === "original" ? "with the original model" : "with the final model"], {
        frameAnchor: "top-left",
        dx: 0,
        dy: -18,
        fontSize: FONT.size,
        fontWeight: "bold",
      }),
    ],
  });
}
