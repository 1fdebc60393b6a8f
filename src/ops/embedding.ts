import kernel from "../../kernels/embedding.wgsl";
import { ShapeError } from "../base/errors";
import { rowBytes } from "../base/packed";
import type { WeightFormat } from "../base/packed";
import { columns, elements, formatShape, rows } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext, NoAttributes } from "../op/declaration";
import { elementKernel, elementWorkgroups } from "../op/element";
import { bindRows, rowRanges } from "../op/launch";
import type { Launch, RowRange } from "../op/launch";
import { elementwiseLaunches } from "./shared/elementwise";

const GROUP = 64;

/** Formats of a table. An index into this list is the kernel's `FORMAT`. */
const FORMATS = ["f32", "f16", "bf16"] as const satisfies readonly WeightFormat[];

type Context = LaunchContext<NoAttributes>;

function sizes(context: InferContext<NoAttributes>): { vocabulary: number; columns: number; tokens: number } {
  const table = context.spec("table").shape;
  return { vocabulary: rows(table), columns: columns(table), tokens: elements(context.spec("ids").shape) };
}

/** All fields of `Params`, for a range of tokens and a range of rows of the table. */
function paramsOf(context: Context, tokens: RowRange, table: RowRange): Record<string, number> {
  const { vocabulary, columns: width } = sizes(context);
  return {
    tokens: tokens.count,
    token0: tokens.start,
    columns: width,
    vocabulary,
    table_row0: table.start,
    table_rows: table.count,
    count: 0,
  };
}

/** A launch for every range of tokens with every range of rows of the table. */
function gatherLaunches(context: Context): Launch[] {
  const { vocabulary, columns: width, tokens: tokenCount } = sizes(context);
  const { dtype } = context.spec("table");
  const formatIndex = FORMATS.findIndex((format) => format === dtype);
  const tableRowBytes = rowBytes(FORMATS[formatIndex]!, width);
  // A vector of words of the table may hold numbers of two rows.
  const element = elementKernel(kernel, [width, (vocabulary * tableRowBytes) / 4]);
  return rowRanges(tokenCount, [width * 4, 4], context.limits).flatMap((tokens) =>
    rowRanges(vocabulary, [tableRowBytes], context.limits).map((table) => ({
      kernel: element.kernel,
      entry: "forward",
      bindings: {
        ids: bindRows("ids", tokens, 4),
        table: bindRows("table", table, tableRowBytes),
        y: bindRows("y", tokens, width * 4),
      },
      params: paramsOf(context, tokens, table),
      constants: { ...element.constants, FORMAT: formatIndex },
      workgroups: tokens.count,
    })),
  );
}

function scatterLaunches(context: Context): Launch[] {
  const { vocabulary, columns: width, tokens: tokenCount } = sizes(context);
  const element = elementKernel(kernel, [width]);
  return rowRanges(tokenCount, [width * 4, 8, 4], context.limits).flatMap((tokens) =>
    rowRanges(vocabulary, [width * 4], context.limits).map((table) => ({
      ...element,
      entry: "grad_table",
      bindings: {
        ids: bindRows("ids", tokens, 4),
        chain: bindRows("chain", tokens, 8),
        dy: bindRows("dy", tokens, width * 4),
        dtable: bindRows("dtable", table, width * 4),
      },
      params: paramsOf(context, tokens, table),
      workgroups: tokens.count * elementWorkgroups(width, element),
    })),
  );
}

function zeroLaunches(context: Context): Launch[] {
  const { vocabulary, columns: width } = sizes(context);
  const none = { start: 0, count: 0 };
  return elementwiseLaunches(
    { kernel, entry: "grad_table_zero", tensors: ["dtable"], count: vocabulary * width, columns: width },
    context.limits,
  ).map((launch) => ({ ...launch, params: { ...paramsOf(context, none, none), ...launch.params } }));
}

/**
 * Rows of a table, selected by their indices; zeros for an index outside the table. table [..., d] (leading axes
 * flattened), ids i32 [...]; y [shape of ids, d].
 */
export const embedding = defineOp({
  name: "embedding",
  inputs: { table: { gradient: true, formats: FORMATS }, ids: { dtype: "i32" } },
  outputs: ["y"],
  infer(context: InferContext<NoAttributes>) {
    const table = context.spec("table").shape;
    if (table.length < 2) {
      throw new ShapeError(
        `embedding: the table ${formatShape(table)} has no rows.`,
        "Pass a table of shape [rows, d].",
      );
    }
    return { y: { shape: [...context.spec("ids").shape, columns(table)], dtype: "f32" } };
  },
  temps: {
    chain: {
      reads: ["ids"],
      spec: (context) => ({ shape: [sizes(context).tokens, 2], dtype: "u32" }),
      launches: (context) => {
        const all = { start: 0, count: sizes(context).tokens };
        return [
          {
            ...elementKernel(kernel, [all.count]),
            entry: "temp_chain",
            bindings: { all_ids: "ids", chain: "chain" },
            params: paramsOf(context, all, { start: 0, count: 0 }),
            workgroups: Math.ceil(all.count / GROUP),
          },
        ];
      },
    },
  },
  forward: gatherLaunches,
  gradients: [
    {
      wrt: ["table"],
      reads: () => ["ids", "chain"],
      accumulates: true,
      launches: (context) => [...(context.accumulate ? [] : zeroLaunches(context)), ...scatterLaunches(context)],
      flops: (context) => sizes(context).tokens * sizes(context).columns,
    },
  ],
  flops: () => 0,
});
