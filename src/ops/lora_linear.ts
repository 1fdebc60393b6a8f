import { WEIGHT_FORMATS } from "../base/packed";
import { ShapeError } from "../base/errors";
import { columns, formatShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext } from "../op/declaration";
import { checkLinear, linear, linearSizes, weightGradient } from "./linear";
import type { LinearAttributes } from "./linear";
import { columnSumLaunches } from "./shared/column-sum";
import { droppedElement, rowsPerText } from "./shared/dropout";
import { joinedLoraGradients } from "./shared/lora-gradients";
import { productFlops, productLaunches } from "./shared/product";
import type { ProductDropout } from "./shared/product";
import { input, matrixProduct } from "./shared/reference";

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
export const loraLinear = defineOp<LoraLinearAttributes>({
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
  infer(context) {
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
  reference(inputs, attributes) {
    const [x, a, b] = [input(inputs, "x"), input(inputs, "a"), input(inputs, "b")];
    const base = linear.reference(inputs, { layout: attributes.layout })["y"]!;
    const [r = 0, inner = 0] = a.shape;
    const count = x.data.length / inner;
    const { dropout: probability, salt } = attributes;
    const seed = inputs["seed"];
    const mask = seed && { probability, salt, seed, perText: inner * rowsPerText("lora_linear", seed.shape, count) };
    const dropped = mask ? { shape: x.shape, data: x.data.map((v, i) => droppedElement(v, i, mask)) } : x;
    const z = { shape: [count, r], data: matrixProduct(dropped, a, count, r, inner, { b: true }) };
    const out = columns(base.shape);
    const delta = matrixProduct(z, b, count, out, r, { b: true });
    return { y: { shape: base.shape, data: base.data.map((v, i) => v + attributes.scale * delta[i]!) }, z };
  },
  cases: [
    ...(["bf16", "nf4"] as const).map((format) => ({
      name: `weight in ${format}, bias, dropout`,
      attributes: { layout: "out_in" as const, scale: 0.5, dropout: 0.25, salt: 3 },
      inputs: {
        x: { shape: [6, 70] },
        w: { shape: [11, 70], format },
        bias: { shape: [11] },
        a: { shape: [3, 70] },
        b: { shape: [11, 3] },
        seed: { shape: [2, 2], values: [5, 6, 7, 8] },
      },
    })),
    {
      name: "torch layout, rank 4, with bias",
      attributes: { layout: "out_in", scale: 4, dropout: 0, salt: 0 },
      inputs: {
        x: { shape: [2, 9, 12] },
        w: { shape: [20, 12] },
        bias: { shape: [20] },
        a: { shape: [4, 12] },
        b: { shape: [20, 4] },
      },
    },
    {
      name: "Conv1D layout, rank 3, with dropout",
      attributes: { layout: "in_out", scale: 0.5, dropout: 0.3, salt: 7 },
      inputs: {
        x: { shape: [37, 16] },
        w: { shape: [16, 33] },
        a: { shape: [3, 16] },
        b: { shape: [33, 3] },
        seed: { shape: [1, 2], values: [11, 5] },
      },
    },
    {
      name: "rank 1, one row",
      attributes: { layout: "out_in", scale: 1, dropout: 0, salt: 0 },
      inputs: { x: { shape: [1, 5] }, w: { shape: [3, 5] }, a: { shape: [1, 5] }, b: { shape: [3, 1] } },
    },
    {
      name: "rows that can be split over bindings, with dropout",
      attributes: { layout: "out_in", scale: 2, dropout: 0.1, salt: 3 },
      inputs: {
        x: { shape: [128, 64] },
        w: { shape: [64, 64] },
        bias: { shape: [64] },
        a: { shape: [4, 64] },
        b: { shape: [64, 4] },
        seed: { shape: [4, 2], values: [1, 2, 1, 3, 1, 4, 1, 5] },
      },
    },
    {
      name: "BERT-base query, 512 tokens, rank 4",
      attributes: { layout: "out_in", scale: 4, dropout: 0, salt: 0 },
      inputs: {
        x: { shape: [512, 768] },
        w: { shape: [768, 768] },
        bias: { shape: [768] },
        a: { shape: [4, 768] },
        b: { shape: [768, 4] },
      },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "rank of a and b differ",
      attributes: { layout: "out_in", scale: 1, dropout: 0, salt: 0 },
      inputs: {
        x: { shape: [2, 3], dtype: "f32" },
        w: { shape: [4, 3], dtype: "f32" },
        a: { shape: [2, 3], dtype: "f32" },
        b: { shape: [4, 1], dtype: "f32" },
      },
      message: /do not fit a projection from 3 to 4/,
    },
    {
      name: "dropout without a seed",
      attributes: { layout: "out_in", scale: 1, dropout: 0.5, salt: 0 },
      inputs: {
        x: { shape: [2, 3], dtype: "f32" },
        w: { shape: [4, 3], dtype: "f32" },
        a: { shape: [2, 3], dtype: "f32" },
        b: { shape: [4, 2], dtype: "f32" },
      },
      message: /needs a seed/,
    },
  ],
});
