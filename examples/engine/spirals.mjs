// A perceptron of one's own that tells two spirals apart, and a picture of what it has learnt.
//
//   node examples/engine/spirals.mjs
import { createEngine, normal, tensorFunction, zeros } from "safetape/engine";
import { crossEntropy, linear, tanh } from "safetape/ops";

const POINTS = 256;
const HIDDEN = 32;

/** Points of two spirals that turn around each other, and the spiral of each. */
const x = new Float32Array(2 * POINTS);
const labels = new Int32Array(POINTS);
for (let i = 0; i < POINTS; i++) {
  const [spiral, along] = [i % 2, i / POINTS];
  const angle = 3 * Math.PI * along + Math.PI * spiral;
  x.set([(0.2 + along) * Math.cos(angle), (0.2 + along) * Math.sin(angle)], 2 * i);
  labels[i] = spiral;
}

const engine = await createEngine();
const net = tensorFunction(
  engine,
  { x: ["points", 2], labels: { shape: ["points"], dtype: "i32" } },
  {
    first: { w: normal([HIDDEN, 2], 2), bias: normal([HIDDEN], 1) },
    second: { w: normal([HIDDEN, HIDDEN]), bias: zeros([HIDDEN]) },
    last: { w: normal([2, HIDDEN]) },
  },
  ({ x, labels }, { first, second, last }) => {
    const hidden = tanh(linear(x, first.w, first.bias));
    const logits = linear(tanh(linear(hidden, second.w, second.bias)), last.w);
    return { logits, loss: crossEntropy(logits, labels) };
  },
  { optimizer: { learningRate: 0.02 } },
);

for (let step = 1; step <= 300; step++) {
  const { loss } = await net.step({ x, labels });
  if (step % 100 === 0) console.log(`step ${step}: loss ${loss.toFixed(4)}`);
}

const [COLUMNS, ROWS] = [56, 28];
const grid = Float32Array.from({ length: 2 * COLUMNS * ROWS }, (_, i) => {
  const [column, row] = [(i >> 1) % COLUMNS, Math.floor((i >> 1) / COLUMNS)];
  return i % 2 ? 1.3 - (2.6 * row) / (ROWS - 1) : (2.6 * column) / (COLUMNS - 1) - 1.3;
});
const { logits } = await net.run({ x: grid, labels: new Int32Array(COLUMNS * ROWS) }, { outputs: ["logits"] });
for (let row = 0; row < ROWS; row++) {
  const cells = Array.from({ length: COLUMNS }, (_, column) => 2 * (row * COLUMNS + column));
  console.log(cells.map((i) => (logits[i + 1] > logits[i] ? "#" : "·")).join(""));
}

net.dispose();
engine.dispose();
