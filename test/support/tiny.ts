import { Batches, ImageBatches } from "safetape/data";
import type { LoadedModel, Sample } from "safetape";
import { LABEL_KINDS } from "../../src/data/batch";
import { Random } from "../../src/base/random";

/** The contents of a config.json. */
export type Config = Readonly<Record<string, unknown>>;

/** Token ids of tiny models are below this. */
const VOCABULARY = 50;
const TEXT = { vocab_size: VOCABULARY, max_position_embeddings: 32, num_labels: 2, pad_token_id: 0 };
const SIZES = { hidden_size: 16, num_hidden_layers: 3, num_attention_heads: 2, intermediate_size: 48 };
const DEBERTA = {
  model_type: "deberta-v2",
  relative_attention: true,
  share_att_key: true,
  norm_rel_ebd: "layer_norm",
  pos_att_type: ["p2c", "c2p"],
  position_buckets: 4,
  position_biased_input: false,
};
const GPT2 = { vocab_size: VOCABULARY, n_positions: 32, n_embd: 16, n_layer: 3, n_head: 2 };
const DISTILBERT = { dim: 16, n_layers: 3, n_heads: 2, hidden_dim: 48 };
const T5 = {
  model_type: "t5",
  vocab_size: VOCABULARY,
  d_model: 16,
  d_kv: 6,
  d_ff: 40,
  num_heads: 2,
  num_layers: 2,
  num_decoder_layers: 2,
  feed_forward_proj: "gated-gelu",
  tie_word_embeddings: false,
  relative_attention_num_buckets: 8,
  relative_attention_max_distance: 12,
  eos_token_id: 1,
};
const BART = {
  model_type: "bart",
  vocab_size: VOCABULARY,
  d_model: 16,
  encoder_layers: 2,
  encoder_attention_heads: 2,
  encoder_ffn_dim: 40,
  decoder_layers: 2,
  decoder_attention_heads: 4,
  decoder_ffn_dim: 48,
  max_position_embeddings: 32,
  attention_dropout: 0.1,
  activation_dropout: 0.1,
  eos_token_id: 2,
};
const IMAGES = { image_size: 8, patch_size: 4, num_channels: 1, num_labels: 2, hidden_dropout_prob: 0.1 };

/** Two blocks with windows on a padded map of 8 x 8 tokens, and one of twice the width on 4 x 4. */
const SWIN = {
  ...IMAGES,
  patch_size: 1,
  embed_dim: 8,
  depths: [2, 1],
  num_heads: [1, 2],
  window_size: 3,
  mlp_ratio: 3,
  drop_path_rate: 0.1,
};

/** A language model in which two heads of queries share one head of keys and values. */
const causal = (model_type: string, architecture: string, overrides: Config) => ({
  ...TEXT,
  ...SIZES,
  model_type,
  num_key_value_heads: 1,
  architectures: [`${architecture}ForCausalLM`],
  ...overrides,
});

/** Configurations of models with three small layers, by family. Overrides replace or add keys. */
export const tiny = {
  bert: (overrides: Config = {}) => ({ ...TEXT, ...SIZES, model_type: "bert", ...overrides }),
  roberta: (overrides: Config = {}) => ({ ...TEXT, ...SIZES, model_type: "roberta", pad_token_id: 1, ...overrides }),
  "xlm-roberta": (overrides: Config = {}) => ({
    ...TEXT,
    ...SIZES,
    model_type: "xlm-roberta",
    pad_token_id: 1,
    ...overrides,
  }),
  electra: (overrides: Config = {}) => ({
    ...TEXT,
    ...SIZES,
    model_type: "electra",
    embedding_size: 12,
    ...overrides,
  }),
  albert: (overrides: Config = {}) => ({ ...TEXT, ...SIZES, model_type: "albert", embedding_size: 12, ...overrides }),
  modernbert: (overrides: Config = {}) => ({
    ...TEXT,
    ...SIZES,
    model_type: "modernbert",
    local_attention: 4,
    classifier_pooling: "mean",
    ...overrides,
  }),
  "deberta-v2": (overrides: Config = {}) => ({ ...TEXT, ...SIZES, ...DEBERTA, ...overrides }),
  mpnet: (overrides: Config = {}) => ({ ...TEXT, ...SIZES, model_type: "mpnet", pad_token_id: 1, ...overrides }),
  distilbert: (overrides: Config = {}) => ({ ...TEXT, ...DISTILBERT, model_type: "distilbert", ...overrides }),
  gpt2: (overrides: Config = {}) => ({ ...GPT2, model_type: "gpt2", ...overrides }),
  llama: (overrides: Config = {}) => causal("llama", "Llama", overrides),
  qwen2: (overrides: Config = {}) => causal("qwen2", "Qwen2", overrides),
  qwen3: (overrides: Config = {}) => causal("qwen3", "Qwen3", { head_dim: 12, ...overrides }),
  mistral: (overrides: Config = {}) => causal("mistral", "Mistral", { sliding_window: 4, ...overrides }),
  phi3: (overrides: Config = {}) => causal("phi3", "Phi3", { sliding_window: 4, ...overrides }),
  gemma2: (overrides: Config = {}) => causal("gemma2", "Gemma2", { head_dim: 12, sliding_window: 4, ...overrides }),
  gemma3_text: (overrides: Config = {}) =>
    causal("gemma3_text", "Gemma3", { head_dim: 12, sliding_window: 4, sliding_window_pattern: 2, ...overrides }),
  olmo2: (overrides: Config = {}) => causal("olmo2", "Olmo2", overrides),
  smollm3: (overrides: Config = {}) => causal("smollm3", "SmolLM3", { no_rope_layer_interval: 2, ...overrides }),
  gpt_neox: (overrides: Config = {}) => ({
    ...TEXT,
    ...SIZES,
    model_type: "gpt_neox",
    architectures: ["GPTNeoXForCausalLM"],
    rotary_pct: 0.5,
    ...overrides,
    num_key_value_heads: null,
  }),
  vit: (overrides: Config = {}) => ({ ...SIZES, ...IMAGES, model_type: "vit", ...overrides }),
  deit: (overrides: Config = {}) => ({ ...SIZES, ...IMAGES, model_type: "deit", ...overrides }),
  dinov2: (overrides: Config = {}) => ({ ...SIZES, ...IMAGES, model_type: "dinov2", mlp_ratio: 3, ...overrides }),
  swin: (overrides: Config = {}) => ({ ...SWIN, model_type: "swin", ...overrides }),
  swinv2: (overrides: Config = {}) => ({ ...SWIN, model_type: "swinv2", window_size: 4, ...overrides }),
  /** Two layers of an encoder, then two of a decoder; feed-forwards as in FLAN-T5. */
  t5: (overrides: Config = {}) => ({ ...T5, ...overrides }),
  bart: (overrides: Config = {}) => ({ ...BART, ...overrides }),
} satisfies Record<string, (overrides?: Config) => Config>;

export type Family = Exclude<keyof typeof tiny, Seq2seqFamily>;
export type Seq2seqFamily = (typeof SEQ2SEQ_FAMILIES)[number];
/** Encoder-decoders. */
export const SEQ2SEQ_FAMILIES = ["t5", "bart"] as const;
/** Whether all families are tried, as in `npm run test:families`. */
export const TRIES_ALL_FAMILIES = process.env["SAFETAPE_ALL_FAMILIES"] !== undefined;
/** The families whose layers differ most, and in the long form two that are like one of them. */
export const FAMILIES: readonly Family[] = [
  "bert",
  "gpt2",
  "llama",
  ...(TRIES_ALL_FAMILIES ? (["roberta", "vit"] as const) : []),
];
/** Families on the blocks of `src/model/encoder-layer.ts`, but BERT, RoBERTa and ViT. */
export const ENCODERS: readonly Family[] = [
  "xlm-roberta",
  "electra",
  "albert",
  "distilbert",
  "mpnet",
  "modernbert",
  "deberta-v2",
  "deit",
  "dinov2",
  "swin",
  "swinv2",
];
/** Families on the blocks of `src/model/decoder.ts`, but LLaMA. */
export const DECODERS: readonly Family[] = [
  "qwen2",
  "qwen3",
  "mistral",
  "phi3",
  "gemma2",
  "gemma3_text",
  "olmo2",
  "smollm3",
  "gpt_neox",
];

/** Overrides for any family, with sizes of which rows end within a word or block of packed formats. */
export const ODD_SIZES = { vocab_size: 51, hidden_size: 24, intermediate_size: 70, n_embd: 24, n_inner: 70 } as const;
/** Overrides that set the number of layers of any family. */
export const layerCount = (layers: number): Config => ({
  num_hidden_layers: layers,
  n_layer: layers,
  n_layers: layers,
});

/** Parts of the names of these layers' tensors, for all ways in which families name layers. */
export const layerNames = (...layers: number[]): string[] =>
  layers.flatMap((layer) => ["layer", "layers", "h"].map((list) => `${list}.${layer}.`));

interface SampleOptions {
  readonly seed?: number;
  /** Maximum number of tokens of a text; the minimum is 5. Default 14. */
  readonly longest?: number;
  /** Whether the labels are the texts themselves. Default: the parity of the first token. */
  readonly areTokens?: boolean;
  /** Whether the labels are the texts backwards, without their first tokens. Default false. */
  readonly areTargets?: boolean;
}

/** Texts of random length and content. */
export function tinySamples(
  count: number,
  { seed = 1, longest = 14, areTokens = false, areTargets = false }: SampleOptions = {},
): Sample[] {
  const random = new Random(seed);
  return Array.from({ length: count }, () => {
    const ids = Int32Array.from({ length: 5 + random.below(longest - 4) }, () => 2 + random.below(VOCABULARY - 2));
    if (areTargets) return { ids, label: ids.slice(2).reverse() };
    return { ids, label: areTokens ? ids : ids[0]! % 2 };
  });
}

/** Eight samples for a tiny model, in batches of `size` rows; texts are padded to a multiple of `multiple`. */
export function tinyData({ model }: Pick<LoadedModel, "model">, size = 4, multiple = 16): Batches | ImageBatches {
  if (model.image) {
    const random = new Random(1);
    const pixels = (): Float32Array => Float32Array.from({ length: 64 }, () => random.normal());
    const samples = Array.from({ length: 8 }, (_, i) => ({ pixels: pixels(), label: i % 2 }));
    return new ImageBatches(samples, model, { size });
  }
  const labels = LABEL_KINDS[model.task];
  const samples = tinySamples(8, { areTokens: labels === "token", areTargets: labels === "target" });
  return new Batches(samples, { size, maxLength: 16, multiple, labels, padId: model.padId });
}
