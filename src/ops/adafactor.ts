import { ShapeError } from "../base/errors";
import { columns as columnsOf, elements, formatShape, rows as rowsOf } from "../base/shape";
import type { Shape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { CaseInput, InferContext } from "../op/declaration";
import { bindRows, rowRanges } from "../op/launch";
import type { Launch } from "../op/launch";
import { DEFAULT_LIMITS } from "../op/limits";
import type { Limits } from "../op/limits";
import { ADAFACTOR_HYPER_SIZE, adafactorLaunch, applyChanges, forwardTemp, stepSizeLaunch } from "./shared/adafactor";
import type { AdafactorAttributes } from "./shared/adafactor";
import { at, input } from "./shared/reference";
import { checkUpdate, clippedGradient, copied, judgedStep, updateInputs, updateSpecs } from "./shared/parameter-update";

type Context = InferContext<AdafactorAttributes>;

/** Rows that one invocation sums for a column: CHUNK of the kernel. */
const CHUNK = 32;

const sizes = (context: Context): { rows: number; columns: number } => {
  const { shape } = context.spec("p");
  return { rows: rowsOf(shape), columns: columnsOf(shape) };
};

function launchesOf(context: Context, limits: Limits): Launch[] {
  const { rows, columns } = sizes(context);
  const rowBytes = columns * 4;
  const judged = { total: "total", loss: "loss", hyper: "hyper" };
  const rowCounts = rowRanges(rows, [rowBytes], limits);
  let chunk0 = 0;
  const parts = rowCounts.map((range) => {
    const chunks = Math.ceil(range.count / CHUNK);
    const part = {
      p: bindRows("p", range, rowBytes),
      g: bindRows("g", range, rowBytes),
      counts: { count: range.count, columns, row0: range.start, chunk0, chunks },
      elements: range.count * columns,
      chunkElements: chunks * columns,
    };
    chunk0 += chunks;
    return part;
  });
  return [
    ...parts.map(({ p, g, counts }) =>
      adafactorLaunch(
        context,
        "row_moments",
        { p, g, rows: "rows", parameter_squares: "parameter_squares", ...judged },
        counts,
        counts.count,
      ),
    ),
    ...parts.map(({ g, counts, chunkElements }) =>
      adafactorLaunch(context, "column_partials", { g, partials: "partials", total: "total", hyper: "hyper" }, counts, {
        elements: chunkElements,
      }),
    ),
    adafactorLaunch(
      context,
      "column_moments",
      { partials: "partials", columns: "columns", ...judged },
      { rows, columns, chunks: chunk0 },
      { elements: columns },
    ),
    adafactorLaunch(context, "row_mean", { rows: "rows", factors: "factors" }, { rows }, 1, 1),
    ...parts.map(({ g, counts }) =>
      adafactorLaunch(
        context,
        "change_squares",
        { g, rows: "rows", columns: "columns", factors: "factors", changes: "changes", total: "total", hyper: "hyper" },
        counts,
        counts.count,
      ),
    ),
    stepSizeLaunch(context, rows),
    ...parts.map(({ p, g, counts, elements: count }) =>
      adafactorLaunch(
        context,
        "matrix",
        { p, g, rows: "rows", columns: "columns", factors: "factors", ...judged },
        counts,
        { elements: count },
      ),
    ),
  ];
}

/** Rows up to this many bytes are never split over bindings in ranges of less than CHUNK rows. */
const SHORT_ROW = DEFAULT_LIMITS.bindingBytes / (2 * CHUNK);

/** Most chunks that the rows may have, however they are split over bindings. */
const mostChunks = ({ rows, columns }: ReturnType<typeof sizes>): number =>
  columns * 4 > SHORT_ROW ? rows : Math.ceil(rows / CHUNK) * 2;

/**
 * One step of Adafactor (Shazeer and Stern 2018) on a matrix, whose second moments are kept as means of rows and of columns, with
 * clipping by the global norm, as in torch.optim.Adafactor. If loss or total is not finite, p, rows and columns stay as they are.
 * p, g [..., C], rows [R] for the R rows of C elements, columns [C], total [1] (sum of squares of all gradients), loss [1], hyper [4].
 */
export const adafactor = defineOp<AdafactorAttributes>({
  name: "adafactor",
  inputs: {
    p: { mutated: true },
    rows: { mutated: true },
    columns: { mutated: true },
    g: {},
    total: {},
    loss: {},
    hyper: {},
  },
  outputs: [],
  infer(context) {
    const { rows, columns } = sizes(context);
    for (const [slot, size] of Object.entries({ rows, columns })) {
      const { shape } = context.spec(slot);
      if (elements(shape) === size) continue;
      throw new ShapeError(
        `adafactor: ${slot} is ${formatShape(shape)} for p ${formatShape(context.spec("p").shape)}.`,
        `Pass it with the shape [${size}].`,
      );
    }
    return checkUpdate(context, "adafactor", [], ADAFACTOR_HYPER_SIZE);
  },
  temps: {
    parameter_squares: forwardTemp((context) => [sizes(context).rows]),
    changes: forwardTemp((context) => [sizes(context).rows]),
    partials: forwardTemp((context) => [mostChunks(sizes(context)), sizes(context).columns]),
    factors: forwardTemp(() => [2]),
  },
  forwardTemps: ["parameter_squares", "changes", "partials", "factors"],
  forward: (context) => launchesOf(context, context.limits),
  gradients: [],
  flops: (context) => 20 * elements(context.spec("p").shape),
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
});

/** Parameter, gradient and moments of a case. The moments are well above zero. */
function matrixInputs(shape: Shape): Record<string, CaseInput> {
  return {
    ...updateInputs(shape, []),
    rows: { shape: [rowsOf(shape)], scale: 0.02, offset: 0.2 },
    columns: { shape: [columnsOf(shape)], scale: 0.02, offset: 0.2 },
  };
}
