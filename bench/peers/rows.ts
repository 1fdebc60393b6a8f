import { Random } from "../../src/base/random";
import { uniform } from "./workload";
import type { Workload } from "./workload";

const ROWS = 512;
const TARGET = 1;

/** Layer norm of BERT-base, with the gradients of x, weight and bias. */
function layerNorm(): Workload {
  const width = 768;
  const { shape, data } = uniform([width], 0.2, 2);
  const inputs = {
    x: uniform([ROWS, width], 1, 1),
    bias: uniform([width], 0.2, 3),
    weight: { shape, data: data.map((value) => 1 + value) },
  };
  const dy = uniform([ROWS, width], 1, 4);
  return {
    name: `layer norm forward + backward, ${ROWS} x ${width}`,
    family: "layer_norm",
    target: TARGET,
    inputs,
    peerInputs: inputs,
    dy,
    peerDy: dy,
    learn: ["x", "weight", "bias"],
    attributes: { eps: 1e-12 },
    flops: 18 * ROWS * width,
  };
}

/** Mean cross-entropy over BERT's vocabulary, with the gradient of the logits. */
function crossEntropy(): Workload {
  const classes = 30522;
  const random = new Random(2);
  const x = uniform([ROWS, classes], 4, 1);
  const labels = { shape: [ROWS], data: Int32Array.from({ length: ROWS }, () => random.below(classes)) };
  return {
    name: `softmax cross-entropy forward + backward, ${ROWS} x ${classes}`,
    family: "cross_entropy",
    inputs: { x, labels, normalizer: { shape: [1], data: Float32Array.of(1 / ROWS) } },
    peerInputs: { x, labels },
    learn: ["x"],
    attributes: { classes },
    flops: 9 * ROWS * classes,
    target: TARGET,
  };
}

export const rowWorkloads = (): (() => Workload)[] => [layerNorm, crossEntropy];
