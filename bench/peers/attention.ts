import { uniform } from "./workload";
import type { Input, Workload } from "./workload";

const [BATCH, HEADS, HEAD] = [2, 8, 64];

/** Scaled dot-product attention, with or without the gradients of q, k and v. */
function attention(length: number, differentiated: boolean): Workload {
  const shape = [BATCH, length, HEADS * HEAD];
  const qkv = { q: uniform(shape, 1, 1), k: uniform(shape, 1, 2), v: uniform(shape, 1, 3) };
  const dy = uniform(shape, 1, 4);
  const mask = { shape: [BATCH, length], data: new Int32Array(BATCH * length).fill(1) };
  const product = 2 * BATCH * HEADS * length * length * HEAD;
  return {
    family: "attention",
    name: `attention ${differentiated ? "forward + backward" : "forward"}, ${length}`,
    inputs: { ...qkv, mask, seed: { shape: [BATCH, 2], data: new Uint32Array(2 * BATCH) } },
    peerInputs: { q: headsFirst(qkv.q, length), k: headsFirst(qkv.k, length), v: headsFirst(qkv.v, length) },
    ...(differentiated ? { dy, peerDy: headsFirst(dy, length), learn: ["q", "k", "v"] } : { learn: [] }),
    attributes: { heads: HEADS, scale: 1 / Math.sqrt(HEAD) },
    fromPeer: (data) => swapAxes(data, HEADS, length),
    // Two products forward and four backward. Recomputing the scores is not counted.
    flops: product * (differentiated ? 6 : 2),
    target: 3,
  };
}

/** Rearranges [b, t, h * d] as [b, h, t, d], so that peers need not transpose as they would in a model. */
const headsFirst = ({ data }: Input<Float32Array>, length: number): Input => ({
  shape: [BATCH, HEADS, length, HEAD],
  data: swapAxes(data, length, HEADS),
});

/** Rearranges [b, first, second, d] as [b, second, first, d]. */
function swapAxes(data: Float32Array, first: number, second: number): Float32Array {
  const swapped = new Float32Array(data.length);
  for (let batch = 0; batch < BATCH; batch++) {
    for (let i = 0; i < first; i++) {
      for (let j = 0; j < second; j++) {
        const from = ((batch * first + i) * second + j) * HEAD;
        swapped.set(data.subarray(from, from + HEAD), ((batch * second + j) * first + i) * HEAD);
      }
    }
  }
  return swapped;
}

export const attentionWorkloads = (): (() => Workload)[] =>
  [128, 256, 512, 1024].flatMap((length) =>
    [false, true].map((differentiated) => () => attention(length, differentiated)),
  );
