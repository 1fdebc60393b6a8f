import * as Plot from "@observablehq/plot";
import { panel, WIDTH, xAxis } from "../svg";
import type { Panel } from "../svg";
import { significant } from "../units";

/** Even in brightness, and the same to every colour vision. */
export const SCHEME = "viridis";

/** The colours of a scale, as a small plot of their own. */
export function ramp([least, most]: readonly [number, number], label: string): Panel {
  const slices = 64;
  const at = (share: number): number => least + (most - least) * share;
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
    x: { ...xAxis(label), domain: [least, most], ticks: 4, tickFormat: significant },
    y: { axis: null },
    color: { domain: [least, most], scheme: SCHEME },
    // They overlap by a hair, so that no seams are seen.
    marks: [Plot.rect(data, { x1: "from", x2: "to", y1: 0, y2: 1, fill: "value", insetRight: -0.5 })],
  });
}
