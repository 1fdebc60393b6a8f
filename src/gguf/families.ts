import { ConfigError } from "../base/errors";
import type { Model } from "../model/model";

/** How llama.cpp names and lays out a family. Names: its convert_hf_to_gguf.py and gguf-py's tensor_mapping.py. */
export interface GgufFamily {
  /** `general.architecture`, with which keys of the metadata begin. */
  readonly architecture: string;
  /** Names of modules of a layer by those of the checkpoint. */
  readonly layer: Readonly<Record<string, string>>;
  /** Whether rows of queries and keys are interleaved, as llama.cpp rotates neighbouring elements there. */
  readonly interleaves?: boolean;
  /** What is added to weights of norms. */
  readonly normOffset?: number;
}

const PROJECTIONS = {
  "self_attn.q_proj": "attn_q",
  "self_attn.k_proj": "attn_k",
  "self_attn.v_proj": "attn_v",
  "self_attn.o_proj": "attn_output",
  "mlp.gate_proj": "ffn_gate",
  "mlp.up_proj": "ffn_up",
  "mlp.down_proj": "ffn_down",
} as const;
const NORMS = { input_layernorm: "attn_norm", post_attention_layernorm: "ffn_norm" } as const;
const HEAD_NORMS = { "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm" } as const;
const GEMMA_NORMS = {
  input_layernorm: "attn_norm",
  post_attention_layernorm: "post_attention_norm",
  pre_feedforward_layernorm: "ffn_norm",
  post_feedforward_layernorm: "post_ffw_norm",
} as const;

/** Families by `model_type`. */
const FAMILIES: Readonly<Record<string, GgufFamily>> = {
  llama: { architecture: "llama", layer: { ...PROJECTIONS, ...NORMS }, interleaves: true },
  mistral: { architecture: "llama", layer: { ...PROJECTIONS, ...NORMS }, interleaves: true },
  qwen2: { architecture: "qwen2", layer: { ...PROJECTIONS, ...NORMS } },
  qwen3: { architecture: "qwen3", layer: { ...PROJECTIONS, ...NORMS, ...HEAD_NORMS } },
  gemma2: { architecture: "gemma2", layer: { ...PROJECTIONS, ...GEMMA_NORMS }, normOffset: 1 },
  gemma3_text: {
    architecture: "gemma3",
    layer: { ...PROJECTIONS, ...GEMMA_NORMS, ...HEAD_NORMS },
    normOffset: 1,
  },
  phi3: {
    architecture: "phi3",
    layer: {
      "self_attn.qkv_proj": "attn_qkv",
      "self_attn.o_proj": "attn_output",
      "mlp.gate_up_proj": "ffn_up",
      "mlp.down_proj": "ffn_down",
      ...NORMS,
    },
  },
};

/** Names of modules outside of layers. */
const OUTSIDE: Readonly<Record<string, string>> = {
  "model.embed_tokens": "token_embd",
  "model.norm": "output_norm",
  lm_head: "output",
};

/** @throws ConfigError for a model that is no causal language model, and for a family that is not exported. */
export function ggufFamily(model: Model): GgufFamily {
  const family = Object.hasOwn(FAMILIES, model.family) ? FAMILIES[model.family] : undefined;
  if (family && model.task === "causal_lm") return family;
  throw new ConfigError(
    family
      ? `The model is for ${model.task}, and llama.cpp runs language models.`
      : `There is no export of ${model.family} models to GGUF.`,
    `Exported are causal language models of ${Object.keys(FAMILIES).join(", ")}; for others convert the merged model with llama.cpp's convert_hf_to_gguf.py.`,
  );
}

/** The name that a module has in GGUF, without `.weight`; undefined for one that it does not have. */
export function ggufModule({ layer }: GgufFamily, module: string): string | undefined {
  const [, number, name] = /^model\.layers\.(\d+)\.(.+)$/.exec(module) ?? [];
  if (number === undefined || name === undefined) return OUTSIDE[module];
  return Object.hasOwn(layer, name) ? `blk.${number}.${layer[name]}` : undefined;
}

/** Heads whose rows a module's are; undefined for modules whose rows keep their order. */
export function interleavedHeads(family: GgufFamily, module: string, config: ModelHeads): number | undefined {
  if (family.interleaves !== true) return undefined;
  if (module.endsWith(".q_proj")) return config.heads;
  return module.endsWith(".k_proj") ? config.kvHeads : undefined;
}

export interface ModelHeads {
  readonly heads: number;
  readonly kvHeads: number;
}

/**
 * Rows of heads, [rows, width] or [rows], in the order in which the two halves of each head alternate: a rotation of elements i and
 * i + d / 2 becomes one of neighbours.
 */
export function interleaved(values: Float32Array, rows: number, heads: number): Float32Array {
  const width = values.length / rows;
  const size = rows / heads;
  const result = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    const [head, i] = [Math.floor(row / size), row % size];
    const from = head * size + (i % 2) * (size / 2) + Math.floor(i / 2);
    result.set(values.subarray(from * width, (from + 1) * width), row * width);
  }
  return result;
}
