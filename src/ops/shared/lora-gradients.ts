import kernel from "../../../kernels/lora_gradients.wgsl";
import type { Absorption } from "../../op/launch";
import type { Limits } from "../../op/limits";
import { productFlops } from "./product-variants";

/** Sizes of a LoRA [rank, in] and [out, rank], for an input of some rows. */
export interface LoraSize {
  readonly rows: number;
  readonly in: number;
  readonly out: number;
  readonly rank: number;
}

/** Highest rank of lora_gradients.wgsl. */
const MAX_RANK = 64;
const VECTOR = 4;
const GROUP_X = 4;
/** Invocations of a workgroup of lora_gradients.wgsl. */
const INVOCATIONS = 256;

/**
 * How the product that gives dA absorbs the one after it, which gives dB: they are small, and independent of each other. Meant for
 * GPUs, where one alone has too few workgroups. None where an operand is cut, or has rows that are no whole vectors.
 */
export function joinedLoraGradients({ rows, in: width, out, rank }: LoraSize, limits: Limits): Absorption[] {
  const isCut = 4 * Math.max(rows, rank) * Math.max(width, out) > limits.bindingBytes;
  if (isCut || rank > MAX_RANK || [width, out, rank].some((count) => count % VECTOR !== 0)) return [];
  const squares = rank % (2 * VECTOR) === 0 ? 2 : 1;
  const groupY = rank / (VECTOR * squares);
  const slices = 2 ** Math.floor(Math.log2(INVOCATIONS / (GROUP_X * groupY)));
  const columns = VECTOR * GROUP_X;
  const variables = { a: "second_a", b: "second_b", c: "second_c" };
  return [
    {
      after: [{ kernel: "product", entry: "plain", isOfSameNode: true, variables, params: "second" }],
      by: "both",
      variants: [
        {
          name: `both gradients, ${slices} slices`,
          kernel,
          constants: { GROUP_X, GROUP_Y: groupY, SQUARES: squares, SLICES: slices },
          workgroups: Math.ceil(width / columns) + Math.ceil(out / columns),
          flops: productFlops(rank, width + out, rows),
          gpu: true,
          rounds: true,
        },
      ],
    },
  ];
}
