import { isDeepStrictEqual } from "node:util";
import { describe, expect, it } from "vitest";
import { createModel } from "../../src/index";
import { ConfigError } from "../../src/entry/engine";
import type { Model } from "../../src/index";
import { withHead } from "../../src/model/families";
import { DECODER_TASKS } from "../../src/model/heads";
import { ENCODER_TASKS } from "../../src/model/text-encoder";
import { readJson } from "../support/json";
import { modelContents } from "../support/model-contents";
import { tiny } from "../support/tiny";
import type { Config } from "../support/tiny";

/** Keys of each family with transformers' defaults: test/interop/config-keys.py. */
const { madeWith: _, ...FAMILIES } = readJson<Readonly<Record<string, Config>>>("test/interop/config-keys.json");

/** Keys that change nothing that is computed here, for all families, by why. */
const HARMLESS: Readonly<Record<string, readonly string[]>> = {
  "what transformers returns, and how it runs": [
    "chunk_size_feed_forward",
    "deterministic_flash_attn",
    "dtype",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "use_cache",
    "reorder_and_upcast_attn",
    "pretraining_tp",
  ],
  "how tensors begin that no file has": [
    "init_std",
    "initializer_factor",
    "initializer_range",
    "initializer_cutoff_factor",
    "layerscale_value",
    "sinusoidal_pos_embds",
  ],
  "names of labels": ["label2id"],
  "what other parts the model is combined with": ["is_encoder_decoder"],
  "what the other tests of this file change for each task": ["architectures"],
  "ids that tokenizers and generation know": [
    "bos_token_id",
    "cls_token_id",
    "eos_token_id",
    "forced_eos_token_id",
    "sep_token_id",
  ],
};

/** Keys that change nothing for single families: those of heads and parts that they do not have here. */
const SUMMARY = ["type", "use_proj", "activation", "proj_to_labels", "first_dropout", "last_dropout"];
/** Of masked images, backbones and poolers. */
const VISION = ["encoder_stride", "pooler_act", "pooler_output_size"];
const BACKBONE = ["encoder_stride", "out_features", "out_indices", "stage_names"];
const HARMLESS_HERE: Readonly<Record<string, readonly string[]>> = {
  // Multiple choice.
  electra: SUMMARY.map((key) => `summary_${key}`),
  // Multiple choice, and the classification of tokens.
  gpt2: [...SUMMARY.map((key) => `summary_${key}`), "classifier_dropout", "hidden_dropout"],
  gpt_neox: ["classifier_dropout", "is_decoder"],
  modernbert: ["sparse_pred_ignore_index", "sparse_prediction"],
  // Convolutions are refused by conv_kernel_size. It has no masked language models here, which alone have a last projection.
  "deberta-v2": ["tie_word_embeddings", "legacy", "conv_act", "conv_groups"],
  // Images.
  gemma3_text: ["image_token_id", "mm_tokens_per_image", "text_config", "vision_config"],
  vit: VISION,
  deit: VISION,
  dinov2: ["apply_layernorm", "out_features", "out_indices", "reshape_hidden_states", "stage_names", "use_mask_token"],
  swin: BACKBONE,
  swinv2: BACKBONE,
  // Classification. DistilBART's files have the decoder's number of layers as num_hidden_layers.
  bart: ["classifier_dropout", "num_hidden_layers", "num_labels", "problem_type", "id2label"],
  t5: ["classifier_dropout", "num_labels", "problem_type", "id2label"],
};

/** Keys that act together with others alone: further configurations in which they are changed. */
const ACTIVE: Readonly<Record<string, readonly Config[]>> = {
  t5: [{ feed_forward_proj: "relu", scale_decoder_outputs: null }],
  qwen2: [{ use_sliding_window: true, sliding_window: 4, max_window_layers: 1, layer_types: null }],
  qwen3: [{ use_sliding_window: true, sliding_window: 4, max_window_layers: 1, layer_types: null }],
  smollm3: [{ use_sliding_window: true, sliding_window: 4, layer_types: null, no_rope_layers: null }],
};

/** What transformers' defaults have that does not fit the tiny models. */
const OF_LARGE: Config = {
  hidden_size: undefined,
  num_layers: undefined,
  id2label: undefined,
  pooler_hidden_size: undefined,
  dense_act_fn: undefined,
  is_gated_act: undefined,
  sliding_window: undefined,
};

const harmless = (family: string): ReadonlySet<string> =>
  new Set([...Object.values(HARMLESS).flat(), ...(HARMLESS_HERE[family] ?? [])]);

/** Other values of a key. */
function others(value: unknown): readonly unknown[] {
  if (typeof value === "boolean") return [!value];
  if (typeof value === "number") return [2 * value, value / 2, value + 1, 0.25, 3];
  if (typeof value === "string") return ["relu", "other"];
  if (Array.isArray(value)) return [[], value.slice(1)];
  if (value && typeof value === "object")
    return [{ 0: "a", 1: "b", 2: "c" }, { rope_type: "linear", factor: 3 }, { rope_type: "other" }];
  return [true, 3, 0.25, "relu", { rope_type: "other" }];
}

const tasksOf = (model: Model): readonly (Model["task"] | undefined)[] => {
  if (model.image || model.encoderDecoder) return [undefined];
  return model.task === "causal_lm" ? DECODER_TASKS : [...ENCODER_TASKS, "masked_lm"];
};

/** What becomes of another value: "used" if it changes the model, "refused" if the error names the key. */
function outcome(
  base: Config,
  key: string,
  value: unknown,
  task: Model["task"] | undefined,
): "used" | "refused" | undefined {
  const build = (config: Config): Model => createModel(withHead(config, { task }));
  let before: Model;
  try {
    before = build(base);
  } catch {
    // A family without this task.
    return undefined;
  }
  try {
    return isDeepStrictEqual(modelContents(build({ ...base, [key]: value })), modelContents(before))
      ? undefined
      : "used";
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const isNamed = error.message.includes(key) || (typeof value === "string" && error.message.includes(value));
    return isNamed ? "refused" : undefined;
  }
}

describe("every key that transformers reads of a family's config.json is used, or refused by name", () => {
  it.each(Object.entries(FAMILIES))("%s", (family, defaults) => {
    // The families in the file have tiny models.
    const own = tiny[family as keyof typeof tiny]();
    const bases = [{}, ...(ACTIVE[family] ?? [])].map((active): Config => ({
      ...defaults,
      ...OF_LARGE,
      ...own,
      ...active,
    }));
    const tasks = tasksOf(createModel(bases[0]!));
    const isRead = (key: string): boolean =>
      bases.some((base) =>
        others(base[key] ?? defaults[key]).some((value) =>
          tasks.some((task) => outcome(base, key, value, task) !== undefined),
        ),
      );
    const passedOver = Object.keys(defaults).filter((key) => !harmless(family).has(key) && !isRead(key));
    expect(passedOver, "passed over").toEqual([]);
    const untrue = (HARMLESS_HERE[family] ?? []).filter((key) => !(key in defaults) || isRead(key));
    expect(untrue, "said to be harmless, but unknown, used or refused").toEqual([]);
  });
});

describe("a key that is missing has a default, or is named with a remedy", () => {
  it.each(Object.entries(tiny))("%s", (_, configOf) => {
    const config: Config = configOf();
    const needed = Object.keys(config).filter((key) => {
      try {
        createModel({ ...config, [key]: undefined });
        return false;
      } catch (error) {
        if (!(error instanceof ConfigError)) throw error;
        // A default may contradict the other keys.
        expect(error.fact, key).toMatch(new RegExp(`^config\\.json(?:: | has no ${key}[.,])`));
        expect(error.fact, key).not.toMatch(/undefined/);
        expect(error.remedy, key).not.toBe("");
        return true;
      }
    });
    expect(needed).toContain("model_type");
  });
});
