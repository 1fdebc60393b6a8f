import kernel from "../../kernels/layer_norm.wgsl";
import { ConfigError, ShapeError } from "../base/errors";
import { columns, elements, formatShape, rows, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext, TensorSpec } from "../op/declaration";
import { vectorVariants } from "../op/element";
import { bindRows, rowRanges } from "../op/launch";
import type { Launch } from "../op/launch";
import { columnSumLaunches } from "./shared/column-sum";
import { accumulateParam } from "./shared/elementwise";
import { ABSORBED_DROPOUTS, ABSORBED_SUMS } from "./shared/residual";
import { chunkCount, chunkSumLaunches } from "./shared/row-chunks";

export type LayerNormAttributes = {
  /** Added to the variance. */
  readonly eps: number;
  /** Whether gradients are computed from the output y, which divides by the weight, or from the input x. */
  readonly keep: "y" | "x";
};

type Context = LaunchContext<LayerNormAttributes>;

const size = (context: InferContext<LayerNormAttributes>): { rows: number; columns: number } => {
  const { shape } = context.spec("x");
  return { rows: rows(shape), columns: columns(shape) };
};

const count = (context: InferContext<LayerNormAttributes>): number => elements(context.spec("x").shape);

const partialsSpec = (context: InferContext<LayerNormAttributes>): TensorSpec => ({
  shape: [chunkCount(size(context).rows), size(context).columns],
  dtype: "f32",
});

/** Launches with a workgroup for each row. `statistics` are slots with their number of elements in a row. */
function rowLaunches(
  entry: string,
  context: Context,
  tables: readonly string[],
  statistics: Readonly<Record<string, number>>,
  vectors: readonly string[],
): Launch[] {
  const { rows: rowCount, columns: width } = size(context);
  const bytes = [width * 4, ...Object.values(statistics).map((perRow) => perRow * 4)];
  return rowRanges(rowCount, bytes, context.limits).map((range) => ({
    kernel,
    entry,
    bindings: {
      ...Object.fromEntries(tables.map((slot) => [slot, bindRows(slot, range, width * 4)])),
      ...Object.fromEntries(Object.entries(statistics).map(([slot, n]) => [slot, bindRows(slot, range, n * 4)])),
      ...Object.fromEntries(vectors.map((slot) => [slot, slot])),
    },
    params: {
      rows: range.count,
      columns: width,
      eps: context.attributes.eps,
      ...accumulateParam(context),
      chunk0: 0,
    },
    workgroups: range.count,
    absorbs: [...(ABSORBED_DROPOUTS[entry] ?? []), ...(ABSORBED_SUMS[entry] ?? [])],
    variants: vectorVariants(kernel, [width], { workgroups: range.count, flops: 8 * range.count * width }),
  }));
}

function gradientOfX(context: Context): Launch[] {
  const { inPlace, attributes } = context;
  const entry = `grad_x_from_${attributes.keep}${inPlace ? "_in_place" : ""}`;
  const tables = [attributes.keep, ...(inPlace ? [] : ["dy"]), "dx"];
  return attributes.keep === "y"
    ? rowLaunches(entry, context, tables, { rstd: 1 }, ["weight", "bias"])
    : rowLaunches(entry, context, tables, { statistics: 2 }, ["weight"]);
}

function partialSums(context: Context, keep: "y" | "x"): Launch[] {
  const { rows: rowCount, columns: width } = size(context);
  const statistics = keep === "x" ? { statistics: 8 } : {};
  const vectors = keep === "y" ? { weight: "weight", bias: "bias" } : {};
  return chunkSumLaunches(
    {
      kernel,
      entry: `temp_partials_from_${keep}`,
      rows: rowCount,
      columns: width,
      tables: { [keep]: width * 4, dy: width * 4, ...statistics },
      whole: { ...vectors, partials: `partials_from_${keep}` },
      params: { eps: context.attributes.eps, accumulate: 0 },
    },
    context.limits,
  );
}

/**
 * Layer normalisation (Ba et al. 2016) over the last axis, with the biased variance. rstd is 1 / standard deviation of
 * each row. x [..., d], weight [d], bias [d]; y [..., d], rstd [rows].
 */
export const layerNorm = defineOp({
  name: "layer_norm",
  inputs: { x: { gradient: true }, weight: { gradient: true }, bias: { gradient: true } },
  outputs: ["y", "rstd"],
  infer(context: InferContext<LayerNormAttributes>) {
    const [x, weight, bias] = [context.spec("x").shape, context.spec("weight").shape, context.spec("bias").shape];
    if (x.length === 0 || !sameShape(weight, [columns(x)]) || !sameShape(bias, weight)) {
      throw new ShapeError(
        `layer_norm: weight ${formatShape(weight)} and bias ${formatShape(bias)} do not fit x ${formatShape(x)}.`,
        `Pass both with the shape [${columns(x)}].`,
      );
    }
    if (!(context.attributes.eps >= 0)) {
      throw new ConfigError(`layer_norm: eps is ${context.attributes.eps}.`, "Pass a small positive number.");
    }
    return { y: { shape: x, dtype: "f32" }, rstd: { shape: [rows(x)], dtype: "f32" } };
  },
  temps: {
    statistics: {
      reads: ["x"],
      spec: (context) => ({ shape: [size(context).rows, 2], dtype: "f32" }),
      launches: (context) => rowLaunches("temp_statistics", context, ["x"], { statistics: 2 }, []),
    },
    partials_from_y: {
      reads: ["dy", "y", "weight", "bias"],
      spec: partialsSpec,
      launches: (context) => partialSums(context, "y"),
    },
    partials_from_x: {
      reads: ["dy", "x", "statistics"],
      spec: partialsSpec,
      launches: (context) => partialSums(context, "x"),
    },
  },
  forward: (context) =>
    context.inPlace
      ? rowLaunches("forward_in_place", context, ["y"], { rstd: 1 }, ["weight", "bias"])
      : rowLaunches("forward", context, ["x", "y"], { rstd: 1 }, ["weight", "bias"]),
  overwrites: "x",
  gradients: [
    {
      wrt: ["x"],
      reads: ({ keep }) => (keep === "y" ? ["y", "rstd", "weight", "bias"] : ["x", "weight", "statistics"]),
      accumulates: true,
      overwrites: "dy",
      launches: gradientOfX,
      flops: (context) => 12 * count(context),
    },
    {
      wrt: ["weight"],
      reads: ({ keep }) => [`partials_from_${keep}`],
      accumulates: true,
      launches: (context) => {
        const { rows: rowCount, columns: width } = size(context);
        const source = `partials_from_${context.attributes.keep}`;
        return columnSumLaunches(source, "dweight", chunkCount(rowCount), width, context);
      },
      flops: (context) => 3 * count(context),
    },
    {
      wrt: ["bias"],
      reads: () => [],
      accumulates: true,
      launches: (context) => columnSumLaunches("dy", "dbias", size(context).rows, size(context).columns, context),
      flops: count,
    },
  ],
  flops: (context) => 8 * count(context),
});
