import inverseKernel from "../../kernels/cayley.wgsl";
import skewKernel from "../../kernels/skew.wgsl";
import { ConfigError, ShapeError } from "../base/errors";
import { formatShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext, Temp } from "../op/declaration";
import { bindRows, rowRanges } from "../op/launch";
import type { Launch, RowRange } from "../op/launch";
import { blockProductLaunch } from "./shared/block-product";
import { productFlops } from "./shared/product";

export type CayleyAttributes = {
  /** Rows of a block. */
  readonly size: number;
  /** Terms of the Neumann series that takes the place of the inverse, as PEFT counts them: at least 2; 0 for the inverse itself. */
  readonly terms: number;
};

type Context = InferContext<CayleyAttributes>;

/** Invocations of a workgroup. */
const GROUP = 64;

/** The highest power of the series R = I + 2 Q + 2 Q^2 + ... + Q^power; with two terms R = I + 2 Q. PEFT's three terms are its four. */
export const powerOf = (terms: number): number => (terms === 2 ? 1 : Math.max(3, terms - 1));

/** What makes the launches for a range of blocks. */
class BlockLaunches {
  readonly #bytes: number;

  constructor(
    private readonly n: number,
    private readonly blocks: RowRange,
  ) {
    this.#bytes = n * n * 4;
  }

  #range(slot: string) {
    return bindRows(slot, this.blocks, this.#bytes);
  }

  #skew(entry: string, tensors: readonly [string, string], matrices: string, vectors: string, params: object): Launch {
    const { n, blocks } = this;
    const [matrix, vector] = tensors;
    const count = blocks.count * n * n;
    return {
      kernel: skewKernel,
      entry,
      bindings: { [matrix]: this.#range(matrices), [vector]: bindRows(vectors, blocks, n * (n - 1) * 2) },
      params: { count, n, factor: 1, diagonal: 0, accumulate: 0, ...params },
      workgroups: Math.ceil(count / GROUP),
    };
  }

  /** to = factor Q + diagonal I. */
  skew(to: string, factor: number, diagonal = 0): Launch {
    return this.#skew("forward", ["q", "v"], to, "v", { factor, diagonal });
  }

  /** dv from the gradient of Q. */
  fold(from: string, factor: number, accumulate: boolean): Launch {
    return this.#skew("fold", ["dq", "dv"], from, "dv", { factor, accumulate: accumulate ? 1 : 0 });
  }

  /** to = factor a b + plusFactor d, where a or b may be transposed ("y^T"); without d, to += a b. */
  product(to: string, [a, b]: readonly [string, string], factor = 1, d?: string, plusFactor = 1): Launch {
    const { n, blocks } = this;
    const operand = (name: string) => {
      const [slot = "", transposed] = name.split("^");
      return { range: this.#range(slot), block: n * n, ...(transposed ? { row: 1, column: n } : { row: n }) };
    };
    return blockProductLaunch({
      blocks: blocks.count,
      m: n,
      n,
      k: n,
      a: operand(a),
      b: operand(b),
      c: operand(to),
      factor,
      accumulate: d === undefined,
      ...(d !== undefined && { plus: { range: this.#range(d), factor: plusFactor } }),
    });
  }

  /** matrix = 2 (matrix^-1 - I). */
  inverse(matrix: string): Launch {
    const { n, blocks } = this;
    const params = { blocks: blocks.count, n };
    return {
      kernel: inverseKernel,
      entry: "inverse",
      bindings: { y: this.#range(matrix) },
      params,
      workgroups: blocks.count,
    };
  }
}

function launches(
  context: LaunchContext<CayleyAttributes>,
  make: (blocks: BlockLaunches) => readonly Launch[],
): Launch[] {
  const { size: n } = context.attributes;
  const count = context.spec("v").shape[0] ?? 0;
  return rowRanges(count, [n * n * 4, n * (n - 1) * 2], context.limits).flatMap((range) =>
    make(new BlockLaunches(n, range)),
  );
}

/** The temps that hold T_k (or D_k) of a recursion in turn. */
const turn = (name: string, k: number): string => `${name}_${k % 2 === 0 ? "even" : "odd"}`;

const TEMP: Temp<CayleyAttributes> = {
  reads: [],
  spec: (context) => ({ shape: matricesOf(context), dtype: "f32" }),
  launches: () => [],
};

const matricesOf = (context: Context): number[] => {
  const { size } = context.attributes;
  return [context.spec("v").shape[0] ?? 0, size, size];
};

const flops = (context: Context, products: number): number => {
  const { size } = context.attributes;
  return (context.spec("v").shape[0] ?? 0) * products * productFlops(size, size, size);
};

/**
 * What an orthogonal matrix R differs by from I, for each block: with Q = -Q^T, whose elements above the diagonal are v row by row,
 * R = (I - Q) (I + Q)^-1 (Cayley), or the first terms of the series of its inverse, R = (I + Q) (I - Q)^-1 = I + 2 Q + 2 Q^2 + ..., of which
 * PEFT counts the last half (Qiu et al. 2023, OFT; Qiu et al. 2025, OFTv2). v [blocks, size (size - 1) / 2], y = R - I [blocks, size, size].
 *
 * The series is made by T_k = Q T_{k+1} + c_k Q down to T_1 = y, and its gradient by the derivative of that recursion at Q^T = -Q in the
 * direction of dy, which needs nothing but v. The gradient of Cayley's form is -2 M^T dy M^T with M = (I + Q)^-1 = I + y / 2.
 */
export const cayley = defineOp({
  name: "cayley",
  inputs: { v: { gradient: true } },
  outputs: ["y"],
  infer(context: Context) {
    const { size, terms } = context.attributes;
    const { shape } = context.spec("v");
    if (!Number.isInteger(terms) || terms < 0 || terms === 1) {
      throw new ConfigError(`cayley: ${terms} terms make no rotation.`, "Pass 0 for the inverse, or at least 2 terms.");
    }
    if (shape.length !== 2 || !Number.isInteger(size) || size < 2 || shape[1] !== (size * (size - 1)) / 2) {
      throw new ShapeError(
        `cayley: v ${formatShape(shape)} does not fit blocks of ${size} rows.`,
        "Pass size (size - 1) / 2 numbers for each block.",
      );
    }
    return { y: { shape: matricesOf(context), dtype: "f32" } };
  },
  temps: { q: TEMP, t_even: TEMP, t_odd: TEMP, d_even: TEMP, d_odd: TEMP },
  forwardTemps: ["q", "t_even", "t_odd"],
  forward(context) {
    const { terms } = context.attributes;
    const power = powerOf(terms);
    return launches(context, (blocks) => {
      if (terms === 0) return [blocks.skew("y", 1, 1), blocks.inverse("y")];
      if (power === 1) return [blocks.skew("y", 2)];
      const steps = Array.from({ length: power - 1 }, (_, i) => {
        const k = power - 1 - i;
        return blocks.product(k === 1 ? "y" : turn("t", k), ["q", i === 0 ? "q" : turn("t", k + 1)], 1, "q", 2);
      });
      return [blocks.skew("q", 1), ...steps];
    });
  },
  gradients: [
    {
      wrt: ["v"],
      reads: ({ terms }) => {
        if (terms === 0) return ["y", "t_even", "d_even"];
        const power = powerOf(terms);
        return power === 1 ? [] : ["v", "q", "t_even", ...(power > 3 ? ["t_odd"] : []), "d_even", "d_odd"];
      },
      accumulates: true,
      launches(context) {
        const { accumulate, attributes } = context;
        const power = powerOf(attributes.terms);
        return launches(context, (blocks) => {
          if (attributes.terms === 0) {
            return [
              blocks.product("t_even", ["y^T", "dy"], 0.5, "dy"),
              blocks.product("d_even", ["t_even", "y^T"], 0.5, "t_even"),
              blocks.fold("d_even", -2, accumulate),
            ];
          }
          if (power === 1) return [blocks.fold("dy", 2, accumulate)];
          const steps = Array.from({ length: power - 1 }, (_, i) => {
            const k = power - 1 - i;
            const [t, d] = i === 0 ? ["q", "dy"] : [turn("t", k + 1), turn("d", k + 1)];
            return [
              blocks.product(turn("d", k), ["q", d], 1, "dy", 2),
              blocks.product(turn("d", k), ["dy", t]),
              ...(k > 1 ? [blocks.product(turn("t", k), ["q", t], 1, "q", 2)] : []),
            ];
          });
          // Here q is Q^T.
          return [blocks.skew("q", -1), ...steps.flat(), blocks.fold(turn("d", 1), 1, accumulate)];
        });
      },
      flops: (context) => {
        const { terms } = context.attributes;
        return flops(context, terms === 0 ? 2 : 3 * (powerOf(terms) - 1));
      },
    },
  ],
  flops: (context) => flops(context, context.attributes.terms === 0 ? 1 : powerOf(context.attributes.terms) - 1),
});
