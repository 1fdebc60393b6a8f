import { readFile } from "node:fs/promises";
import { Random } from "../../src/base/random";
import { Batches } from "../../src/data/batches";
import { lora } from "../../src/adapter/lora";
import type { LoadedModel } from "../../src/io/load-model";
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

/** Names of the live tensors in the layers below `layer`. */
export function tensorsBelow(trainer: Trainer, layer: number): string[] {
  return [...trainer.state.liveByLayer()].filter(([index]) => index < layer).flatMap(([, names]) => names);
}
