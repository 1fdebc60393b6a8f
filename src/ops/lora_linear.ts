import { WEIGHT_FORMATS } from "../base/packed";
import { ShapeError } from "../base/errors";
import { formatShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext } from "../op/declaration";
import { checkLinear, linearSizes, weightGradient } from "./linear";
import type { LinearAttributes } from "./linear";
import { columnSumLaunches } from "./shared/column-sum";
import { rowsPerText } from "./shared/dropout";
import { joinedLoraGradients } from "./shared/lora-gradients";
import { productFlops, productLaunches } from "./shared/product";
import type { ProductDropout } from "./shared/product";

export type LoraLinearAttributes = LinearAttributes & {
  /** Factor of B A: alpha / r, or alpha / sqrt(r) for rsLoRA. */
  readonly scale: number;
  /** Probability that an element of the input of A is dropped; 0 for no dropout. */
  readonly dropout: number;
  /** Number of this node among those with dropout, so that each has a mask of its own. */
  readonly salt: number;
};

type Context = InferContext<LoraLinearAttributes>;

const rank = (context: Context): number => context.spec("a").shape[0] ?? 0;

const textRows = (context: Context): number =>
  rowsPerText("lora_linear", context.spec("seed").shape, linearSizes(context).rows);

function dropoutOn(on: ProductDropout["on"], context: Context): ProductDropout | undefined {
  const { dropout, salt } = context.attributes;
  return dropout > 0 ? { on, probability: dropout, salt, textRows: textRows(context) } : undefined;
}

const seedIfDropped = ({ dropout }: LoraLinearAttributes): string[] => (dropout > 0 ? ["seed"] : []);

/** Launches of z [rows, r] = drop(x) A^T. */
function downLaunches(context: LaunchContext<LoraLinearAttributes>) {
  const size = linearSizes(context);
  return productLaunches(
    {
      m: size.rows,
      n: rank(context),
      k: size.in,
      c: "z",
      accumulate: false,
      a: { slot: "x" },
      b: { slot: "a", transposed: true },
      dropout: dropoutOn("a", context),
    },
    context.limits,
  );
}

/**
 * y = x W + bias + scale * (drop(x) A^T) B^T (LoRA, Hu et al. 2021, eq. 3), with z = drop(x) A^T, in one pass over y.
 * x [..., in], w as in `linear`, bias [out], a [r, in], b [out, r], seed u32 [texts, 2] if there is dropout;
 * y [..., out], z [rows, r].
 */
export const loraLinear = defineOp({
  name: "lora_linear",
  inputs: {
    x: { gradient: true },
    w: { gradient: true, formats: WEIGHT_FORMATS },
    bias: { gradient: true, optional: true },
    a: { gradient: true },
    b: { gradient: true },
    seed: { dtype: "u32", optional: true },
  },
  outputs: ["y", "z"],
  infer(context: Context) {
    checkLinear(context);
    const size = linearSizes(context);
    const a = context.spec("a").shape;
    const b = context.spec("b").shape;
    const fits = a.length === 2 && b.length === 2 && a[1] === size.in && b[0] === size.out && a[0] === b[1];
    if (!fits) {
      throw new ShapeError(
        `lora_linear: a ${formatShape(a)} and b ${formatShape(b)} do not fit a projection from ${size.in} to ${size.out}.`,
        `Pass a of shape [r, ${size.in}] and b of shape [${size.out}, r].`,
      );
    }
    if (context.attributes.dropout > 0 && !context.has("seed")) {
      throw new ShapeError("lora_linear: dropout needs a seed.", "Pass a u32 tensor of shape [texts, 2].");
    }
    if (context.has("seed")) textRows(context);
    const x = context.spec("x").shape;
    return {
      y: { shape: [...x.slice(0, -1), size.out], dtype: "f32" },
      z: { shape: [size.rows, rank(context)], dtype: "f32" },
    };
  },
  temps: {
    // u = dy B, which both dx and dA read.
    u: {
      reads: ["dy", "b"],
      spec: (context) => ({ shape: [linearSizes(context).rows, rank(context)], dtype: "f32" }),
      launches: (context) =>
        productLaunches(
          {
            m: linearSizes(context).rows,
            n: rank(context),
            k: linearSizes(context).out,
            c: "u",
            accumulate: false,
            a: { slot: "dy" },
            b: { slot: "b" },
          },
          context.limits,
        ),
      flops: (context) => productFlops(linearSizes(context).rows, rank(context), linearSizes(context).out),
    },
  },
  forward(context) {
    const size = linearSizes(context);
    return [
      ...downLaunches(context),
      ...productLaunches(
        {
          m: size.rows,
          n: size.out,
          k: size.in,
          c: "y",
          accumulate: false,
          a: { slot: "x" },
          b: { slot: "w", transposed: context.attributes.layout === "out_in", format: context.spec("w").dtype },
          bias: context.has("bias") ? "bias" : undefined,
          lowRank: {
            rank: rank(context),
            z: "z",
            scale: context.attributes.scale,
            l: { slot: "b", transposed: true },
          },
        },
        context.limits,
      ),
    ];
  },
  gradients: [
    {
      wrt: ["x"],
      reads: (attributes) => ["w", "a", "u", ...seedIfDropped(attributes)],
      accumulates: true,
      launches(context) {
        const size = linearSizes(context);
        return productLaunches(
          {
            m: size.rows,
            n: size.in,
            k: size.out,
            c: "dx",
            accumulate: context.accumulate,
            a: { slot: "dy" },
            b: { slot: "w", transposed: context.attributes.layout === "in_out", format: context.spec("w").dtype },
            lowRank: { rank: rank(context), z: "u", l: { slot: "a" }, scale: context.attributes.scale },
            dropout: dropoutOn("lowRank", context),
          },
          context.limits,
        );
      },
      flops: (context) =>
        productFlops(linearSizes(context).rows, linearSizes(context).in, linearSizes(context).out + rank(context)),
    },
    {
      wrt: ["w"],
      reads: () => ["x"],
      accumulates: true,
      launches: weightGradient,
      flops: (context) => productFlops(linearSizes(context).in, linearSizes(context).out, linearSizes(context).rows),
    },
    {
      wrt: ["a"],
      reads: (attributes) => ["x", "u", ...seedIfDropped(attributes)],
      accumulates: true,
      launches(context) {
        const size = linearSizes(context);
        const launches = productLaunches(
          {
            m: rank(context),
            n: size.in,
            k: size.rows,
            c: "da",
            accumulate: context.accumulate,
            a: { slot: "u", transposed: true },
            b: { slot: "x" },
            dropout: dropoutOn("b", context),
            factor: context.attributes.scale,
          },
          context.limits,
        );
        // With dropout, the bits of its mask would take most of the joined loop.
        if (context.attributes.dropout > 0) return launches;
        const absorbs = joinedLoraGradients({ ...size, rank: rank(context) }, context.limits);
        return launches.map((launch) => ({ ...launch, absorbs }));
      },
      flops: (context) => productFlops(rank(context), linearSizes(context).in, linearSizes(context).rows),
    },
    {
      wrt: ["b"],
      reads: () => ["z"],
      accumulates: true,
      launches(context) {
        const size = linearSizes(context);
        return productLaunches(
          {
            m: size.out,
            n: rank(context),
            k: size.rows,
            c: "db",
            accumulate: context.accumulate,
            a: { slot: "dy", transposed: true },
            b: { slot: "z" },
            factor: context.attributes.scale,
          },
          context.limits,
        );
      },
      flops: (context) => productFlops(linearSizes(context).out, rank(context), linearSizes(context).rows),
    },
    {
      wrt: ["bias"],
      reads: () => [],
      accumulates: true,
      launches: (context) =>
        columnSumLaunches("dy", "dbias", linearSizes(context).rows, linearSizes(context).out, context),
      flops: (context) => linearSizes(context).rows * linearSizes(context).out,
    },
  ],
  flops: (context) => {
    const size = linearSizes(context);
    return productFlops(size.rows, rank(context), size.in) + productFlops(size.rows, size.out, size.in + rank(context));
  },
});
