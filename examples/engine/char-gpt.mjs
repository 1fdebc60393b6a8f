// A character-level GPT of one's own, trained from scratch on a text, and what it writes.
//
//   node examples/engine/char-gpt.mjs [TEXT_FILE [STEPS]]
import { readFileSync } from "node:fs";
import { createEngine, normal, ones, tensorFunction } from "safetape/engine";
import { add, attention, crossEntropy, embedding, gelu, linear, rmsNorm } from "safetape/ops";

const text = [...readFileSync(process.argv[2] ?? new URL("../data/sentiment/train.tsv", import.meta.url), "utf8")];
const steps = Number(process.argv[3] ?? 300);
const alphabet = [...new Set(text)].sort();
const encode = (characters) => Int32Array.from(characters, (character) => alphabet.indexOf(character));
const [WIDTH, LAYERS, HEADS, BATCH, LENGTH] = [64, 2, 4, 16, 32];

const engine = await createEngine();
const gpt = tensorFunction(
  engine,
  { ids: { shape: ["batch", LENGTH], dtype: "i32" }, next: { shape: ["batch", LENGTH], dtype: "i32" } },
  {
    tables: [normal([alphabet.length, WIDTH], 0.1), normal([1, LENGTH, WIDTH], 0.1)],
    blocks: Array.from({ length: LAYERS }, () => ({
      norms: [ones([WIDTH]), ones([WIDTH])],
      qkv: Array.from({ length: 3 }, () => normal([WIDTH, WIDTH])),
      out: normal([WIDTH, WIDTH]),
      mlp: [normal([4 * WIDTH, WIDTH]), normal([WIDTH, 4 * WIDTH])],
    })),
    last: ones([WIDTH]),
  },
  ({ ids, next }, { tables: [tokens, positions], blocks, last }) => {
    let h = add(embedding(tokens, ids), positions);
    for (const { norms, qkv, out, mlp } of blocks) {
      const [q, k, v] = qkv.map((w) => linear(rmsNorm(h, norms[0]), w));
      h = add(h, linear(attention(q, k, v, { heads: HEADS, causal: true }), out));
      h = add(h, linear(gelu(linear(rmsNorm(h, norms[1]), mlp[0])), mlp[1]));
    }
    const logits = linear(rmsNorm(h, last), tokens);
    return { logits, loss: crossEntropy(logits, next) };
  },
  { optimizer: { learningRate: 3e-3, weightDecay: 0.01 } },
);

for (let step = 1; step <= steps; step++) {
  const starts = Array.from({ length: BATCH }, () => Math.floor(Math.random() * (text.length - LENGTH - 1)));
  const rows = (offset) => encode(starts.flatMap((start) => text.slice(start + offset, start + offset + LENGTH)));
  const { loss } = await gpt.step({ ids: rows(0), next: rows(1) });
  if (step % 50 === 0 || step === steps) console.log(`step ${step}: loss ${loss.toFixed(3)}`);
}

const written = text.slice(0, LENGTH);
for (let i = 0; i < 200; i++) {
  const ids = encode(written.slice(-LENGTH));
  const { logits } = await gpt.run({ ids, next: ids }, { outputs: ["logits"] });
  const last = logits.subarray(-alphabet.length).map((logit) => Math.exp(logit / 0.8));
  let left = Math.random() * last.reduce((sum, weight) => sum + weight, 0);
  written.push(alphabet[last.findIndex((weight) => (left -= weight) < 0)]);
}
console.log(written.slice(LENGTH).join(""));

gpt.dispose();
engine.dispose();
