import { readFile } from "node:fs/promises";
import { Random } from "../../src/base/random";
import { LABEL_KINDS } from "../../src/data/batch";
import { Batches } from "../../src/data/batches";
import { ImageBatches } from "../../src/data/images";
import { lora } from "../../src/adapter/lora";
import type { LoadedModel } from "../../src/io/load-model";
import type { BatchSource } from "../../src/train/options";
import { Trainer } from "../../src/train/trainer";

/** The contents of a model's config.json. */
export async function readConfig(path: string): Promise<Record<string, unknown>> {
  // A configuration is a JSON object; whoever takes one checks its keys.
  return JSON.parse(await readFile(path, "utf8")) as Record<string, unknown>;
}

/** The configuration of a BERT with heads of 64 elements. */
export const bertConfig = (layers: number, hidden: number): Record<string, unknown> => ({
  model_type: "bert",
  vocab_size: 1000,
  hidden_size: hidden,
  num_hidden_layers: layers,
  num_attention_heads: hidden / 64,
  intermediate_size: 4 * hidden,
  max_position_embeddings: 512,
  num_labels: 2,
});

/** A trainer for LoRA (rank 4 on query and value) on batches of `size` rows of `length` random tokens. */
export function loraTrainer(model: LoadedModel, size: number, length: number): Promise<Trainer> {
  const random = new Random(1);
  const samples = Array.from({ length: 4 * size }, (_, i) => ({
    ids: Int32Array.from({ length }, () => 5 + random.below(900)),
    label: i % 2,
  }));
  return Trainer.create({
    model,
    adapter: lora({ rank: 4, alpha: 16 }),
    data: new Batches(samples, { size }),
    steps: 1000,
    schedule: { type: "constant" },
  });
}

/** Two batches for a model's task: each of `size` texts of `length` random tokens, or of as many images of noise. */
export function randomBatches({ model }: LoadedModel, size: number, length: number): BatchSource {
  const random = new Random(1);
  const rows = Array.from({ length: 2 * size }, (_, i) => i);
  if (model.image) {
    const numbers = model.image.channels * model.image.size ** 2;
    const pixels = () => Float32Array.from({ length: numbers }, () => random.normal());
    return new ImageBatches(
      rows.map((i) => ({ pixels: pixels(), label: i % 2 })),
      model,
      { size },
    );
  }
  // The first few tokens may have a meaning; all vocabularies have a thousand.
  const ids = () => Int32Array.from({ length }, () => 5 + random.below(995));
  const labels = LABEL_KINDS[model.task];
  const samples = rows.map((i) => {
    const text = ids();
    return { ids: text, label: labels === "token" ? text : labels === "target" ? ids() : i % 2 };
  });
  return new Batches(samples, { size, labels, padId: model.padId });
}

/** A configuration with fewer layers, of its published width. Swin's stages have two layers each. */
export function withLayers(config: Readonly<Record<string, unknown>>, layers: number): Record<string, unknown> {
  const { depths, layer_types } = config;
  const counts = LAYER_COUNTS.filter((key) => key in config && !depths);
  return {
    ...config,
    ...Object.fromEntries(counts.map((key) => [key, layers])),
    ...(Array.isArray(depths) && { depths: depths.map(() => 2) }),
    ...(Array.isArray(layer_types) && { layer_types: layer_types.slice(0, layers) }),
  };
}

/** Where configurations have their number of layers. */
const LAYER_COUNTS = ["num_hidden_layers", "num_layers", "num_decoder_layers", "n_layer"] as const;

/** Names of the live tensors in the layers below `layer`. */
export function tensorsBelow(trainer: Trainer, layer: number): string[] {
  return [...trainer.state.liveByLayer()].filter(([index]) => index < layer).flatMap(([, names]) => names);
}
