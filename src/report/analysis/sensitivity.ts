import * as Plot from "@observablehq/plot";
import type { SensitivityRun } from "../../analysis/sensitivity";
import type { SensitivityKind } from "../../ops/sensitivity";
import { matrixName } from "../adapter-map";
import { ramp, SCHEME } from "../ramp";
import { figure, FONT, MARGINS, pairs, panel, textWidth, WIDTH, xAxis } from "../svg";
import type { Figure, Panel } from "../svg";

/** Formulas of the sensitivities of a weight p with gradient g. */
const FORMULAS: Readonly<Record<SensitivityKind, string>> = {
  gradient: "|g|",
  weight_gradient: "|p g|",
  gradient_over_weight: "|g / p|",
  weight: "|p|",
};

interface Cell {
  readonly matrix: string;
  readonly layer: number;
  readonly epoch: number;
}

/** The epoch in which each matrix of each layer froze, as colours, with a panel for every sensitivity. */
export function sensitivityFigure(runs: readonly SensitivityRun[]): Figure {
  const panels = runs.map((run) => ({ run, cells: cellsOf(run) }));
  const cells = panels.flatMap((one) => one.cells);
  const matrices = [...new Set(cells.map(({ matrix }) => matrix))].sort();
  const layers = [...new Set(cells.map(({ layer }) => layer))].sort((a, b) => a - b);
  const domain = [0, Math.max(1e-9, ...cells.map(({ epoch }) => epoch))] as const;
  const [first] = runs;
  return figure(
    {
      name: "sensitivity",
      title: "When matrices freeze, by the sensitivity that scores them",
      caption:
        "One run each, with the same seed and data." +
        (first ? ` By ${FORMULAS[first.sensitivity]}, the last to freeze is ${lastOf(first.frozen)}.` : ""),
    },
    [],
    [
      ramp({ type: "linear", domain }, "epoch in which a matrix froze"),
      ...pairs(panels.map(({ run, cells: own }) => map(run.sensitivity, own, { matrices, layers, domain }))),
    ],
  );
}

function cellsOf({ frozen, stepsPerEpoch }: SensitivityRun): Cell[] {
  return frozen.flatMap(({ name, layer, step }) =>
    layer === undefined ? [] : [{ matrix: matrixName(name, layer), layer, epoch: step / stepsPerEpoch }],
  );
}

/** The last matrix of a run in words. */
function lastOf(frozen: SensitivityRun["frozen"]): string {
  const last = frozen.at(-1);
  if (!last) return "none";
  return last.layer === undefined ? last.name : `${matrixName(last.name, last.layer)} of layer ${last.layer}`;
}

function map(
  sensitivity: SensitivityKind,
  cells: readonly Cell[],
  axes: {
    readonly matrices: readonly string[];
    readonly layers: readonly number[];
    readonly domain: readonly [number, number];
  },
): Panel {
  const longest = Math.max(0, ...axes.matrices.map((name) => textWidth(name, FONT.small)));
  const every = Math.ceil(axes.layers.length / 12);
  return panel({
    width: WIDTH / 2,
    height: axes.matrices.length * 26 + MARGINS.marginTop + MARGINS.marginBottom,
    marginLeft: longest + 16,
    x: {
      ...xAxis("layer"),
      type: "band",
      domain: [...axes.layers],
      padding: 0.06,
      ticks: axes.layers.filter((_, i) => i % every === 0),
    },
    y: { label: null, domain: [...axes.matrices], padding: 0.06 },
    color: { domain: [...axes.domain], scheme: SCHEME, clamp: true },
    marks: [
      Plot.axisY({ label: null, fontSize: FONT.small, tickSize: 0 }),
      Plot.cell(cells, { x: "layer", y: "matrix", fill: "epoch", ariaDescription: "freezes" }),
      Plot.text([FORMULAS[sensitivity]], {
        frameAnchor: "top-left",
        dx: 0,
        dy: -18,
        fontSize: FONT.size,
        fontWeight: "bold",
      }),
    ],
  });
}
