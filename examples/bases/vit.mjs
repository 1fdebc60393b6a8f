import { ImageBatches, memoryDirectory, readIdx } from "safetape/data";
import { accuracy } from "safetape/metrics";
import { readData } from "./data.mjs";

/** Classes that the base learns; those from 5 on are left for fine-tuning. */
const CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"];
const MEAN = 0.286;
const DEVIATION = 0.353;

/** A ViT of 6 layers x 64 and patches of 7 x 7 pixels, on the classes 0 to 4 of Fashion-MNIST. */
export async function vit({ seed, smoke }) {
  const { contents, checksums } = await readData("fashionMnist");
  const folder = memoryDirectory("Fashion-MNIST");
  for (const [name, bytes] of Object.entries(contents)) await folder.write(name.replace(/\.gz$/, ""), bytes);
  const preprocessor = {
    do_resize: false,
    do_rescale: true,
    do_normalize: true,
    image_mean: [MEAN],
    image_std: [DEVIATION],
  };
  const read = async (part) => {
    const files = ["images-idx3", "labels-idx1"].map((kind) => `${part}-${kind}-ubyte`);
    const all = await readIdx(folder, ...files, { classes: 10, preprocessor });
    return all.filter(({ label }) => label < CLASSES.length);
  };
  // The test set tells how good the base is; nothing is chosen by it.
  const [train, test] = [await read("train"), await read("t10k")];
  return {
    config: {
      architectures: ["ViTForImageClassification"],
      model_type: "vit",
      image_size: 28,
      patch_size: 7,
      num_channels: 1,
      hidden_size: 64,
      num_hidden_layers: 6,
      num_attention_heads: 2,
      intermediate_size: 256,
      hidden_act: "gelu",
      hidden_dropout_prob: 0.1,
      attention_probs_dropout_prob: 0,
      qkv_bias: true,
      initializer_range: 0.02,
      layer_norm_eps: 1e-12,
      id2label: { ...CLASSES },
      label2id: Object.fromEntries(CLASSES.map((name, label) => [name, label])),
    },
    files: { "preprocessor_config.json": preprocessor },
    checksums,
    data: (model) => new ImageBatches(smoke ? train.slice(0, 256) : train, model, { size: 64, seed }),
    dev: (model) =>
      new ImageBatches(smoke ? test.slice(0, 64) : test, model, { size: 100, shuffle: false }).restOfEpoch(),
    metrics: ({ predictions, labels }) => ({ accuracy: accuracy(predictions, labels) }),
    training: {
      epochs: smoke ? 1 : 6,
      optimizer: { learningRate: 1e-3, weightDecay: 0.05, maxGradNorm: 1 },
      schedule: { type: "cosine", warmupRatio: 0.05 },
    },
  };
}
