import { ShapeError } from "../base/errors";
import { columns as columnsOf, elements, formatShape, rows as rowsOf } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext } from "../op/declaration";
import { bindRows, rowRanges } from "../op/launch";
import type { Launch } from "../op/launch";
import { DEFAULT_LIMITS } from "../op/limits";
import type { Limits } from "../op/limits";
import { ADAFACTOR_HYPER_SIZE, adafactorLaunch, forwardTemp, stepSizeLaunch } from "./shared/adafactor";
import type { AdafactorAttributes } from "./shared/adafactor";
import { checkUpdate } from "./shared/parameter-update";

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
export const adafactor = defineOp({
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
  infer(context: Context) {
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
});
