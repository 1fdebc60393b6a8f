import * as Plot from "@observablehq/plot";
import type { MethodMemory } from "../../analysis/memory";
import { LIFETIMES } from "../../gpu/ledger";
import { LIFETIME_KEYS } from "../figures/memory";
import { figure, panel, textWidth, xAxis } from "../svg";
import type { Figure } from "../svg";
import { byteUnit, significant } from "../units";

/** The planned memory of each method as a bar, by lifetime. */
export function methodMemoryFigure(methods: readonly MethodMemory[], workload: string): Figure {
  const unit = byteUnit(Math.max(...methods.map(({ peakBytes }) => peakBytes)));
  const bars = methods.flatMap(({ name, bytes }) =>
    LIFETIMES.map((lifetime) => ({ name, lifetime, value: bytes[lifetime] / unit.size })),
  );
  const totals = methods.map(({ name, peakBytes }) => ({ name, value: peakBytes / unit.size }));
  const keys = LIFETIMES.map((lifetime) => ({ ...LIFETIME_KEYS[lifetime], as: "area" as const }));
  return figure(
    {
      name: "memory",
      title: "GPU memory of a training step by method",
      caption: `Planned peaks of ${workload}. Nothing is measured: plans equal what the ledger counts in a run.`,
    },
    keys,
    [
      panel({
        height: 44 * methods.length + 70,
        marginLeft: 24 + Math.max(...methods.map(({ name }) => textWidth(name))),
        marginRight: 60,
        x: { ...xAxis(`GPU memory (${unit.name})`), grid: true, nice: true },
        y: { label: null, domain: methods.map(({ name }) => name) },
        color: { domain: [...LIFETIMES], range: LIFETIMES.map((lifetime) => LIFETIME_KEYS[lifetime].colour) },
        marks: [
          Plot.barX(bars, {
            x: "value",
            y: "name",
            fill: "lifetime",
            order: [...LIFETIMES],
            insetTop: 3,
            insetBottom: 3,
            ariaDescription: "memory by method",
          }),
          Plot.text(totals, {
            x: "value",
            y: "name",
            text: ({ value }: (typeof totals)[number]) => significant(value),
            textAnchor: "start",
            dx: 6,
            fill: "currentColor",
          }),
          Plot.ruleX([0]),
        ],
      }),
    ],
  );
}
