import { columns as columnsOf, rows as rowsOf } from "../base/shape";
import type { Shape } from "../base/shape";
import type { CaseInput, TestsOf } from "../op/declaration";
import { ADAFACTOR_HYPER_SIZE } from "./shared/adafactor";
import { applyChanges } from "./shared/adafactor.cases";
import { at, input } from "./shared/reference";
import { clippedGradient, copied, judgedStep, updateInputs, updateSpecs } from "./shared/parameter-update.cases";
import type { adafactor } from "./adafactor";

export const adafactorTests: TestsOf<typeof adafactor> = {
  reference(inputs, attributes) {
    const hyper = input(inputs, "hyper").data;
    const [, rate = 0, maxNorm = 0] = hyper;
    const [p, rows, columns] = [copied(inputs, "p"), copied(inputs, "rows"), copied(inputs, "columns")];
    const g = clippedGradient(inputs, maxNorm);
    if (!g) return { p, rows, columns };
    const [rowCount, columnCount] = [rows.data.length, columns.data.length];
    const [rowSums, columnSums] = [new Float64Array(rowCount), new Float64Array(columnCount)];
    for (let i = 0; i < p.data.length; i++) {
      rowSums[Math.floor(i / columnCount)]! += g(i) ** 2;
      columnSums[i % columnCount]! += g(i) ** 2;
    }
    for (let i = 0; i < rowCount; i++) rows.data[i] = at(rows, i) + rate * (rowSums[i]! / columnCount - at(rows, i));
    for (let j = 0; j < columnCount; j++) {
      columns.data[j] = at(columns, j) + rate * (columnSums[j]! / rowCount - at(columns, j));
    }
    const mean = rows.data.reduce((sum, x) => sum + x, 0) / rowCount;
    const moment = (i: number): number =>
      (at(rows, Math.floor(i / columnCount)) * at(columns, i % columnCount)) / Math.max(mean, attributes.eps1);
    applyChanges(p, g, moment, hyper, attributes);
    return { p, rows, columns };
  },
  cases: [
    {
      name: "relative to the parameter, clipped, decay, odd sizes",
      attributes: { weightDecay: 0.1, eps1: 1e-30, eps2: 1e-3, threshold: 1, scaleParameter: true },
      inputs: { ...matrixInputs([5, 13]), ...judgedStep([0.1, 0.3, 1, 0.2], { total: 30 }) },
    },
    {
      name: "absolute steps, a bound above the rows' mean, three axes",
      attributes: { weightDecay: 0, eps1: 2, eps2: 1e-3, threshold: 0.3, scaleParameter: false },
      inputs: { ...matrixInputs([2, 40, 8]), ...judgedStep([0.1, 1, 0, 0.1]) },
    },
    {
      name: "a row and a column without gradients, one row's parameters 0",
      attributes: { weightDecay: 0, eps1: 1e-30, eps2: 1e-3, threshold: 1, scaleParameter: true },
      inputs: {
        p: { shape: [2, 2], values: [0, 0, 1, 2] },
        g: { shape: [2, 2], values: [0, 0, 0, 3] },
        rows: { shape: [2], values: [0, 0] },
        columns: { shape: [2], values: [0, 0] },
        ...judgedStep([0.1, 1, 0, 0.1]),
      },
    },
    {
      name: "one element",
      attributes: { weightDecay: 0, eps1: 1e-30, eps2: 1e-3, threshold: 1, scaleParameter: false },
      inputs: { ...matrixInputs([1, 1]), ...judgedStep([0.1, 0.5, 0, 0.1]) },
    },
    {
      name: "loss not finite: no step",
      attributes: { weightDecay: 0.1, eps1: 1e-30, eps2: 1e-3, threshold: 1, scaleParameter: false },
      inputs: { ...matrixInputs([7, 10]), ...judgedStep([0.1, 0.5, 0, 0.1], { loss: NaN }) },
    },
    {
      name: "rows that can be split over bindings",
      attributes: { weightDecay: 0.01, eps1: 1e-30, eps2: 1e-3, threshold: 1, scaleParameter: true },
      inputs: { ...matrixInputs([71, 152]), ...judgedStep([0.1, 0.5, 0, 0.1]) },
    },
    {
      name: "BERT-base feed-forward weight",
      attributes: { weightDecay: 0.01, eps1: 1e-30, eps2: 1e-3, threshold: 1, scaleParameter: false },
      inputs: { ...matrixInputs([3072, 768]), ...judgedStep([0.1, 0.5, 1, 0.1]) },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "moments of three rows for two",
      attributes: { weightDecay: 0, eps1: 1e-30, eps2: 1e-3, threshold: 1, scaleParameter: false },
      inputs: updateSpecs([], ADAFACTOR_HYPER_SIZE, { p: [2, 4], g: [2, 4], rows: [3], columns: [4] }),
      message: /adafactor: rows is \[3\] for p \[2, 4\]/,
    },
  ],
};

/** Parameter, gradient and moments of a case. The moments are well above zero. */
function matrixInputs(shape: Shape): Record<string, CaseInput> {
  return {
    ...updateInputs(shape, []),
    rows: { shape: [rowsOf(shape)], scale: 0.02, offset: 0.2 },
    columns: { shape: [columnsOf(shape)], scale: 0.02, offset: 0.2 },
  };
}
