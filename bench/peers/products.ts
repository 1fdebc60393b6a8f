import { uniform } from "./workload";
import type { Workload } from "./workload";

const TOKENS = 512;
const RANK = 8;
const TARGET = 3;

/** The product x w of x [m, k] and w [k, n]. */
function product(name: string, m: number, k: number, n: number): Workload {
  const inputs = { x: uniform([m, k], 1, 1), w: uniform([k, n], 1 / Math.sqrt(k), 2) };
  return {
    name,
    family: "product",
    inputs,
    peerInputs: inputs,
    learn: [],
    attributes: {},
    flops: 2 * m * k * n,
    target: TARGET,
  };
}

/** x W + 2 (x A^T) B^T for 512 tokens, A [r, in] and B [out, r], with or without the gradients of x, A and B. */
function lora(name: string, from: number, to: number, differentiated: boolean): Workload {
  const inputs = {
    x: uniform([TOKENS, from], 1, 1),
    w: uniform([from, to], 1 / Math.sqrt(from), 2),
    a: uniform([RANK, from], 1 / Math.sqrt(from), 3),
    b: uniform([to, RANK], 1 / Math.sqrt(RANK), 4),
  };
  const dy = uniform([TOKENS, to], 1, 5);
  const forward = 2 * TOKENS * (from * to + RANK * (from + to));
  const backward = forward + 2 * TOKENS * RANK * (from + to);
  return {
    family: "lora",
    inputs,
    peerInputs: inputs,
    attributes: { scale: 2 },
    target: TARGET,
    name: `LoRA ${differentiated ? "forward + backward" : "forward"}, ${name}: ${from} -> ${to}`,
    ...(differentiated ? { dy, peerDy: dy, learn: ["x", "a", "b"] } : { learn: [] }),
    flops: differentiated ? forward + backward : forward,
  };
}

/** Projections of 512 tokens. LLaMA 1B has a width of 2048, 32 heads of size 64 and 8 key-value heads. */
const PROJECTIONS: readonly (readonly [name: string, from: number, to: number, differentiated: readonly boolean[]])[] =
  [
    ["BERT-base query", 768, 768, [false, true]],
    ["BERT-base and GPT-2 up", 768, 3072, [false, true]],
    ["BERT-base and GPT-2 down", 3072, 768, [false, true]],
    ["GPT-2 q, k, v", 768, 2304, [false, true]],
    ["LLaMA 1B query", 2048, 2048, [false, true]],
    ["LLaMA 1B key", 2048, 512, [true]],
    // Its dx has the shape of the down projection. Only differentiated, since it takes peers many seconds.
    ["LLaMA 1B up", 2048, 8192, [true]],
  ];

/** Square products, products with the adapter's rank as one side, and LoRA's projections. */
export const productWorkloads = (): (() => Workload)[] => [
  ...[256, 512, 1024, 2048].map((size) => () => product(`product ${size}`, size, size, size)),
  ...[768, 3072, 2048, 8192].map(
    (width) => () => product(`rank-8 product ${TOKENS} x ${width} x ${RANK}`, TOKENS, width, RANK),
  ),
  ...PROJECTIONS.flatMap(([name, from, to, variants]) =>
    variants.map((differentiated) => () => lora(name, from, to, differentiated)),
  ),
];
