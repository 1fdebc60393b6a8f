import { Batches, ImageBatches } from "safetape";
import type { LoadedModel, Sample } from "safetape";
import { Random } from "../../src/base/random";

const TEXT = { vocab_size: 50, max_position_embeddings: 32, num_labels: 2, pad_token_id: 0 };
const BERT_SIZES = { hidden_size: 16, num_hidden_layers: 3, num_attention_heads: 2, intermediate_size: 48 };
/** A small model of every family, with the dropouts that their configurations have by default. */
export const TINY_MODELS: Readonly<Record<string, Record<string, unknown>>> = {
  bert: { ...TEXT, ...BERT_SIZES, model_type: "bert" },
  roberta: { ...TEXT, ...BERT_SIZES, model_type: "roberta", pad_token_id: 1 },
  gpt2: { model_type: "gpt2", vocab_size: 50, n_positions: 32, n_embd: 16, n_layer: 3, n_head: 2 },
  llama: { ...TEXT, ...BERT_SIZES, model_type: "llama", num_key_value_heads: 1, architectures: ["LlamaForCausalLM"] },
  vit: {
    ...BERT_SIZES,
    model_type: "vit",
    image_size: 8,
    patch_size: 4,
    num_channels: 1,
    num_labels: 2,
    hidden_dropout_prob: 0.1,
  },
};

/** Eight rows of random content, in batches of `size`; texts of 5 to 14 tokens, padded to a multiple of `multiple`. */
export function tinyData({ model }: LoadedModel, size = 4, multiple = 16): Batches | ImageBatches {
  const random = new Random(1);
  if (model.image) {
    const pixels = (): Float32Array => Float32Array.from({ length: 64 }, () => random.normal());
    const samples = Array.from({ length: 8 }, (_, i) => ({ pixels: pixels(), label: i % 2 }));
    return new ImageBatches(samples, model, { size });
  }
  const samples: Sample[] = Array.from({ length: 8 }, () => {
    const ids = Int32Array.from({ length: 5 + random.below(10) }, () => 2 + random.below(48));
    return { ids, label: model.task === "causal_lm" ? ids : ids[0]! % 2 };
  });
  const labels = model.task === "causal_lm" ? ("token" as const) : ("class" as const);
  return new Batches(samples, { size, maxLength: 16, multiple, labels });
}
