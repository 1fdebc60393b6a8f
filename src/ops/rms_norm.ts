import kernel from "../../kernels/rms_norm.wgsl";
import { ConfigError, ShapeError } from "../base/errors";
import { columns, elements, formatShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext, TensorSpec } from "../op/declaration";
import { vectorVariants } from "../op/element";
import { bindRows, rowRanges } from "../op/launch";
import type { Launch } from "../op/launch";
import { columnSumLaunches } from "./shared/column-sum";
import { accumulateParam } from "./shared/elementwise";
import { ABSORBED_SUMS } from "./shared/residual";
import { chunkCount, chunkSumLaunches } from "./shared/row-chunks";

export type RmsNormAttributes = {
  /** Added to the mean square. */
  readonly eps: number;
  /** An integer that is added to the weight. Gemma's norms multiply by 1 + weight. */
  readonly offset: number;
  /** Whether gradients are computed from the output y, which divides by the weight, or from the input x. */
  readonly keep: "y" | "x";
};

type Context = LaunchContext<RmsNormAttributes>;

const size = (context: InferContext<RmsNormAttributes>): { rows: number; columns: number } => {
  const width = columns(context.spec("weight").shape);
  return { rows: count(context) / width, columns: width };
};

const count = (context: InferContext<RmsNormAttributes>): number => elements(context.spec("x").shape);

const partialsSpec = (context: InferContext<RmsNormAttributes>): TensorSpec => ({
  shape: [chunkCount(size(context).rows), size(context).columns],
  dtype: "f32",
});

const constantsOf = ({ attributes: { offset } }: Context): Record<string, number> =>
  offset === 0 ? {} : { OFFSET: offset };

/** Launches with a workgroup for each row. */
function rowLaunches(entry: string, tables: readonly string[], context: Context): Launch[] {
  const { rows: rowCount, columns: width } = size(context);
  return rowRanges(rowCount, [width * 4, 4], context.limits).map((range) => ({
    kernel,
    entry,
    workgroups: range.count,
    constants: constantsOf(context),
    absorbs: ABSORBED_SUMS[entry] ?? [],
    variants: vectorVariants(kernel, [width], { workgroups: range.count, flops: 8 * range.count * width }).map(
      (variant) => ({ ...variant, constants: { ...variant.constants, ...constantsOf(context) } }),
    ),
    bindings: {
      ...Object.fromEntries(tables.map((slot) => [slot, bindRows(slot, range, width * 4)])),
      rstd: bindRows("rstd", range, 4),
      weight: "weight",
    },
    params: {
      rows: range.count,
      columns: width,
      eps: context.attributes.eps,
      chunk0: 0,
      ...accumulateParam(context),
    },
  }));
}

function partialSums(context: Context, keep: "y" | "x"): Launch[] {
  const { rows: rowCount, columns: width } = size(context);
  return chunkSumLaunches(
    {
      kernel,
      entry: `temp_partials_from_${keep}`,
      rows: rowCount,
      columns: width,
      tables: { [keep]: width * 4, dy: width * 4, ...(keep === "x" ? { rstd: 4 } : {}) },
      whole: { ...(keep === "y" ? { weight: "weight" } : {}), partials: `partials_from_${keep}` },
      params: { eps: context.attributes.eps, accumulate: 0 },
    },
    context.limits,
  ).map((launch) => ({ ...launch, constants: { ...launch.constants, ...constantsOf(context) } }));
}

/**
 * Root-mean-square normalisation (Zhang and Sennrich 2019) over the last axis, as in LLaMA, or over each of its `groups`
 * parts of the weight's size (queries and keys of a head, as in Qwen 3). rstd is 1 / root mean square of each row, or part
 * of a row. x [..., groups * d], weight [d]; y [shape of x], rstd [rows * groups].
 */
export const rmsNorm = defineOp({
  name: "rms_norm",
  inputs: { x: { gradient: true }, weight: { gradient: true } },
  outputs: ["y", "rstd"],
  infer(context: InferContext<RmsNormAttributes>) {
    const [x, weight] = [context.spec("x").shape, context.spec("weight").shape];
    if (x.length === 0 || weight.length !== 1 || columns(x) % columns(weight) !== 0) {
      throw new ShapeError(
        `rms_norm: weight ${formatShape(weight)} does not fit x ${formatShape(x)}.`,
        `Pass it with the shape [${columns(x)}], or of a part of it.`,
      );
    }
    if (!(context.attributes.eps >= 0)) {
      throw new ConfigError(`rms_norm: eps is ${context.attributes.eps}.`, "Pass a small positive number.");
    }
    return { y: { shape: x, dtype: "f32" }, rstd: { shape: [size(context).rows], dtype: "f32" } };
  },
  temps: {
    partials_from_y: {
      reads: ["dy", "y", "weight"],
      spec: partialsSpec,
      launches: (context) => partialSums(context, "y"),
    },
    partials_from_x: {
      reads: ["dy", "x", "rstd"],
      spec: partialsSpec,
      launches: (context) => partialSums(context, "x"),
    },
  },
  forward: (context) =>
    context.inPlace ? rowLaunches("forward_in_place", ["y"], context) : rowLaunches("forward", ["x", "y"], context),
  overwrites: "x",
  gradients: [
    {
      wrt: ["x"],
      reads: ({ keep }) => [keep, "rstd", "weight"],
      accumulates: true,
      overwrites: "dy",
      launches: (context) => {
        const { keep } = context.attributes;
        return context.inPlace
          ? rowLaunches(`grad_x_from_${keep}_in_place`, [keep, "dx"], context)
          : rowLaunches(`grad_x_from_${keep}`, [keep, "dy", "dx"], context);
      },
      flops: (context) => 8 * count(context),
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
  ],
  flops: (context) => 4 * count(context),
});
