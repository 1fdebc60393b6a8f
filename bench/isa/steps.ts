import { dora } from "../../src/adapter/dora";
import { lora } from "../../src/adapter/lora";
import type { Adapter } from "../../src/adapter/adapter";
import { WEIGHT_FORMATS } from "../../src/base/packed";
import type { WeightFormat } from "../../src/base/packed";
import { createModel } from "../../src/model/families";
import { withWeights } from "../../src/model/weights";
import type { Limits } from "../../src/op/limits";
import type { ActivationFormat } from "../../src/op/pack";
import { adamW } from "../../src/optimizer/adamw";
import type { Plan } from "../../src/tape/plan";
import { evaluationPlan } from "../../src/train/plans/evaluation-plan";
import { PlanBook } from "../../src/train/plans/plan-book";
import { sidePlans } from "../../src/train/plans/side-plans";
import { trainableSpecs } from "../../src/train/tensors/specs";
import { readConfig } from "../support/model";

/** A training step whose kernels are compiled. */
interface Step {
  readonly name: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly batch: number;
  readonly length: number;
  /** Tokens of a target, for an encoder-decoder. */
  readonly targetLength?: number;
  readonly adapter: Adapter;
  readonly weights: WeightFormat;
  readonly activations?: ActivationFormat;
}

/** All layers of a model have the same launches, but for the lowest, whose input needs no gradient. */
const TWO_LAYERS = { num_hidden_layers: 2, n_layer: 2 };

/** LLaMA 3.2 1B (meta-llama/Llama-3.2-1B): heads of 64, eight for keys and values. */
const LLAMA_1B = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  vocab_size: 128256,
  hidden_size: 2048,
  intermediate_size: 8192,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  max_position_embeddings: 131072,
  rms_norm_eps: 1e-5,
  rope_theta: 500000,
  tie_word_embeddings: true,
};

/** What makes a narrow Gemma 3 of `LLAMA_1B`. */
const GEMMA = {
  architectures: ["Gemma3ForCausalLM"],
  model_type: "gemma3_text",
  vocab_size: 256,
  hidden_size: 64,
  intermediate_size: 128,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 16,
};

/** Head sizes of published models: MiniLM, LLaMA 3.2 1B, Phi-2, Phi-3 mini, LLaMA 2, Gemma. */
const HEADS = [32, 64, 80, 96, 128, 256] as const;

/** Patches of 4 x 4 pixels of an image of 224 x 224. */
const SWIN_TOKENS = 56 * 56;

const NO_DROPOUT = {
  hidden_dropout_prob: 0,
  attention_probs_dropout_prob: 0,
  embd_pdrop: 0,
  attn_pdrop: 0,
  resid_pdrop: 0,
};

/**
 * The steps: BERT-base, GPT-2 and a LLaMA of 1B with LoRA, every format of weights, every head size; some with DoRA; and models whose
 * attention has a table of positions.
 */
export async function steps(): Promise<Step[]> {
  const [bert, gpt2] = [await readConfig("bench/configs/bert-base.json"), await readConfig("bench/configs/gpt2.json")];
  const queryValue = lora({ rank: 8 });
  const all = lora({ rank: 16, dropout: 0.1, targets: "all-linear" });
  const models = [
    { name: "BERT-base", config: { ...bert, ...TWO_LAYERS }, batch: 32, length: 128 },
    { name: "GPT-2", config: { ...gpt2, ...TWO_LAYERS }, batch: 8, length: 512 },
    { name: "LLaMA 1B", config: { ...LLAMA_1B, ...TWO_LAYERS }, batch: 2, length: 512 },
  ];
  const formats = models.flatMap(({ name, ...model }) =>
    WEIGHT_FORMATS.flatMap((weights) => [
      { ...model, name: `${name}, ${weights}, LoRA 8`, adapter: queryValue, weights },
      { ...model, name: `${name}, ${weights}, LoRA 16 on all`, adapter: all, weights, activations: "bf16" as const },
    ]),
  );
  const normed = (["f32", "nf4"] as const).map((weights) => ({
    ...models[2]!,
    name: `LLaMA 1B, ${weights}, DoRA 8`,
    adapter: dora({ rank: 8, dropout: 0.1 }),
    weights,
  }));
  const heads = HEADS.flatMap((head) => {
    const [width, weights] = [8 * head, "f32" as const];
    const text = { hidden_size: width, intermediate_size: 4 * width, num_attention_heads: 8 };
    const encoder = { ...bert, ...TWO_LAYERS, ...text };
    const decoder = { ...LLAMA_1B, ...TWO_LAYERS, ...text, num_key_value_heads: 2 };
    const shape = { batch: 8, length: 256, adapter: queryValue, weights };
    return [
      { ...shape, name: `BERT with heads of ${head}`, config: encoder },
      { ...shape, name: `BERT with heads of ${head}, no dropout`, config: { ...encoder, ...NO_DROPOUT } },
      { ...shape, name: `LLaMA with heads of ${head}`, config: decoder },
    ];
  });
  const tables = [
    {
      name: "FLAN-T5-base",
      file: "flan-t5-base",
      fewer: { num_layers: 2, num_decoder_layers: 2 },
      batch: 8,
      length: 128,
      targetLength: 64,
    },
    { name: "DeBERTaV3-base", file: "deberta-v3-base", fewer: TWO_LAYERS, batch: 8, length: 128 },
    { name: "Swin-base", file: "swin-base", fewer: { depths: [2, 2, 2, 2] }, batch: 4, length: SWIN_TOKENS },
  ];
  const positions = await Promise.all(
    tables.map(async ({ file, fewer, ...step }) => {
      const config = { ...(await readConfig(`bench/configs/${file}.json`)), ...fewer };
      return { ...step, config, adapter: all, weights: "f32" as const };
    }),
  );
  // Its gated unit by GELU is the one part that the models above do not have.
  const gemma = { ...LLAMA_1B, ...TWO_LAYERS, ...GEMMA };
  return [
    ...formats,
    ...normed,
    ...heads,
    ...positions,
    { name: "Gemma 3, narrow", config: gemma, batch: 1, length: 8, adapter: all, weights: "f32" },
  ];
}

/** Every plan that a run of a step holds, and its evaluation. */
export function plansOf(step: Step, limits: Limits): Plan[] {
  const { adapter, batch: size, length, targetLength, activations } = step;
  const shape = { size, length, ...(targetLength !== undefined && { targetLength }) };
  const model = withWeights(createModel(step.config), step.weights);
  const planned = { model, fragileNorms: new Set<string>() };
  const specs = trainableSpecs(model, adapter);
  const traced = { adapter, labelSmoothing: 0, isTraining: true };
  const book = new PlanBook({ planned, traced, limits, activations, accumulates: true }, new Set(specs.keys()));
  book.addShape(shape);
  const side = sidePlans(
    {
      planned,
      adapter,
      optimizer: adamW({ weightDecay: 0.01, maxGradNorm: 1 }),
      statistics: [],
      pruning: undefined,
      sumsLosses: true,
      variants: undefined,
      limits,
    },
    specs,
    new Set(),
  );
  return [...book.plans, ...side.all, evaluationPlan(planned, adapter, shape, limits)];
}
