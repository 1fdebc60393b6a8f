// Figures in the report's style, as text that the page inserts.
import * as Plot from "@observablehq/plot";
import { adapterFigure } from "../../../src/report/figures/adapters";
import { lossFigure } from "../../../src/report/figures/loss";
import { memoryFigure } from "../../../src/report/figures/memory";
import { learningRateFigure, timeFigure } from "../../../src/report/figures/steps";
import type { RunRecord } from "../../../src/report/record";
import { COLOURS, figure, inlineSvg, panel, xAxis, yAxis } from "../../../src/report/svg";
import type { Figure } from "../../../src/report/svg";
import type { Picture } from "../protocol";

const pictureOf = (drawn: Figure): Picture => {
  const { name, title, caption } = drawn;
  return { name, title, caption, svg: inlineSvg(drawn) };
};

/** Draws the figures of a run so far, each when it is called: undefined for one that there is nothing to draw of. */
export const runDrawings = (record: RunRecord): (() => Picture | undefined)[] =>
  [lossFigure, memoryFigure, adapterFigure, timeFigure, learningRateFigure].map((draw) => () => {
    const drawn = draw(record);
    return drawn && pictureOf(drawn);
  });

/** How many rows have how many tokens. @param lengths in ascending order. */
export function lengthsPicture(lengths: readonly number[]): Picture {
  const [least, most] = [lengths[0] ?? 0, lengths.at(-1) ?? 0];
  const labels = {
    name: "lengths",
    title: "Lengths of the rows",
    caption: `${lengths.length} rows of ${least} to ${most} tokens.`,
  };
  const bars = Plot.rectY(lengths, {
    ...Plot.binX({ y: "count" }, { x: (length: number) => length }),
    fill: COLOURS.blue,
    ariaDescription: "rows",
  });
  const drawn = panel({
    height: 220,
    x: { ...xAxis("tokens of a row"), nice: true },
    y: { ...yAxis("rows"), nice: true },
    marks: [bars, Plot.ruleY([0])],
  });
  return pictureOf(figure(labels, [], [drawn]));
}
