import { Batches, blockSamples, loadTokenizer, memoryDirectory } from "safetape/data";
import { readWikiText } from "./data.mjs";
import { blocksOf, idsOf, written } from "./texts.mjs";
import { byteLevel } from "./vocabulary.mjs";

const LENGTH = 128;

/** A GPT-2 of 4 layers x 128 on WikiText-2. */
export async function gpt2({ seed, smoke }) {
  const { train, dev, checksums } = await readWikiText();
  const files = byteLevel(train, 4096);
  const tokenizer = await loadTokenizer(await written(memoryDirectory("tokenizer"), files));
  const few = (all) => (smoke ? all.slice(0, 300) : all);
  const samples = (lines) =>
    blockSamples(
      blocksOf(
        idsOf(
          tokenizer,
          lines.map((line) => `${line}\n`),
        ),
        LENGTH,
      ),
    );
  const [trainSamples, devSamples] = [samples(few(train)), samples(few(dev))];
  const end = tokenizer.vocabularySize - 1;
  return {
    config: {
      architectures: ["GPT2LMHeadModel"],
      model_type: "gpt2",
      vocab_size: tokenizer.vocabularySize,
      n_positions: 256,
      n_embd: 128,
      n_layer: 4,
      n_head: 4,
      activation_function: "gelu_new",
      embd_pdrop: 0,
      attn_pdrop: 0,
      resid_pdrop: 0,
      initializer_range: 0.02,
      layer_norm_epsilon: 1e-5,
      bos_token_id: end,
      eos_token_id: end,
    },
    files,
    checksums,
    data: () => new Batches(trainSamples, { size: 16, labels: "token", seed }),
    dev: () => new Batches(devSamples, { size: 16, labels: "token", shuffle: false }).restOfEpoch(),
    metrics: ({ loss }) => ({ perplexity: Math.exp(loss) }),
    training: {
      epochs: 1,
      optimizer: { learningRate: 1e-3, weightDecay: 0.01, maxGradNorm: 1 },
      schedule: { type: "cosine", warmupRatio: 0.1 },
    },
  };
}
