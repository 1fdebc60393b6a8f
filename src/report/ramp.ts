import * as Plot from "@observablehq/plot";
import { panel, WIDTH, xAxis } from "./svg";
import type { Panel } from "./svg";
import { significant } from "./units";

/** Colour scheme of numbers: uniform in brightness, and distinguishable with any colour vision. */
export const SCHEME = "viridis";

/** A colour scale of numbers. */
export interface ColourScale {
  readonly type: "linear" | "log";
  readonly domain: readonly [least: number, most: number];
}

/** The legend of a colour scale, as a small panel. */
export function ramp({ type, domain: [least, most] }: ColourScale, label: string): Panel {
  const slices = 64;
  const at = (share: number): number =>
    type === "log" ? least * (most / least) ** share : least + (most - least) * share;
  const data = Array.from({ length: slices }, (_, i) => ({
    from: at(i / slices),
    to: at((i + 1) / slices),
    value: at((i + 0.5) / slices),
  }));
  return panel({
    width: WIDTH / 2,
    height: 64,
    marginTop: 6,
    marginBottom: 44,
    x: { ...xAxis(label), type, domain: [least, most], ticks: 4, tickFormat: significant },
    y: { axis: null },
    color: { type, domain: [least, most], scheme: SCHEME },
    marks: [
      Plot.rect(data, {
        x1: "from",
        x2: "to",
        y1: 0,
        y2: 1,
        fill: "value",
        // Overlapping slices leave no visible seams.
        insetRight: -0.5,
        ariaDescription: "colour scale",
      }),
    ],
  });
}
