// LoRA on an attention model of one's own: its base is frozen, and halfway the adapters of the lower half freeze as well.
// Prints the loss, what a step keeps, and the bytes that the freeze returned to the driver.
//
//   node examples/engine/lora.mjs [STEPS]
import { createEngine, frozen, normal, ones, sumBytes, tensorFunction, zeros } from "safetape/engine";
import { add, attention, crossEntropy, embedding, gelu, linear, loraLinear, mean, rmsNorm } from "safetape/ops";

const steps = Number(process.argv[2] ?? 120);
const [TOKENS, LENGTH, BATCH, WIDTH, LAYERS, RANK] = [16, 24, 16, 32, 4, 4];

/** Sequences of tokens, and whether small or large ones are more frequent. */
function batch() {
  const labels = Int32Array.from({ length: BATCH }, (_, row) => row % 2);
  const isLarge = (row) => Math.random() < (labels[row] ? 0.7 : 0.3);
  const token = (i) => Math.floor((Math.random() * TOKENS) / 2) + (isLarge(Math.floor(i / LENGTH)) ? TOKENS / 2 : 0);
  return { ids: Int32Array.from({ length: BATCH * LENGTH }, (_, i) => token(i)), labels };
}

const base = (rows, columns) => frozen(normal([rows, columns]));
const adapter = () => ({ a: normal([RANK, WIDTH]), b: zeros([WIDTH, RANK]) });
const block = () => ({
  base: { q: base(WIDTH, WIDTH), k: base(WIDTH, WIDTH), v: base(WIDTH, WIDTH), up: base(4 * WIDTH, WIDTH) },
  down: base(WIDTH, 4 * WIDTH),
  norms: [frozen(ones([WIDTH])), frozen(ones([WIDTH]))],
  lora: { q: adapter(), v: adapter() },
});

const engine = await createEngine();
const net = tensorFunction(
  engine,
  { ids: { shape: [BATCH, LENGTH], dtype: "i32" }, labels: { shape: [BATCH], dtype: "i32" } },
  { table: base(TOKENS, WIDTH), blocks: Array.from({ length: LAYERS }, block), head: normal([2, WIDTH]) },
  ({ ids, labels }, { table, blocks, head }) => {
    let h = embedding(table, ids);
    for (const { base: w, down, norms, lora } of blocks) {
      const x = rmsNorm(h, norms[0]);
      const q = loraLinear(x, { w: w.q, ...lora.q }, 2);
      const v = loraLinear(x, { w: w.v, ...lora.v }, 2);
      h = add(h, attention(q, linear(x, w.k), v, { heads: 4 }));
      h = add(h, linear(gelu(linear(rmsNorm(h, norms[1]), w.up)), down));
    }
    return crossEntropy(linear(mean(h, { axes: [1] }), head), labels);
  },
  { optimizer: { learningRate: 5e-3 } },
);

for (let step = 1; step <= steps; step++) {
  const { loss } = await net.step(batch());
  const { live } = engine.ledger;
  if (step % Math.ceil(steps / 4) === 0)
    console.log(`step ${step}: loss ${loss.toFixed(3)}, ${sumBytes(live)} bytes, ${live.saved} kept`);
  if (step !== steps / 2) continue;
  const { returnedBytes } = await net.freeze(["blocks.0.lora", "blocks.1.lora"]);
  console.log(`the adapters of the lower half are frozen: ${returnedBytes} bytes returned`);
}

net.dispose();
engine.dispose();
