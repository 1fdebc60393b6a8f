import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { checkSchema } from "./json";
import type { PeftConfig } from "./peft";
import { matchesPattern } from "./peft-match";

const COUNT = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const RANK = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
const NAMES = v.array(v.string());
const FINITE = v.pipe(v.number(), v.finite());

/**
 * `peft_type` of a LoRA with biases that the checkpoint does not have. PEFT would leave them out without a word, so that it
 * has to refuse the file.
 */
export const LORA_WITH_BIASES = "SAFETAPE_LORA_WITH_BIASES";

const LORA = v.object({
  peft_type: v.picklist(["LORA", LORA_WITH_BIASES]),
  r: v.optional(RANK, 8),
  lora_alpha: v.optional(FINITE, 8),
  lora_dropout: v.optional(v.pipe(FINITE, v.minValue(0), v.maxValue(1)), 0),
  target_modules: v.optional(v.nullable(v.union([v.string(), NAMES])), null),
  exclude_modules: v.optional(v.nullable(v.union([v.string(), NAMES])), null),
  bias: v.optional(v.picklist(["none", "all", "lora_only"]), "none"),
  fan_in_fan_out: v.optional(v.boolean(), false),
  use_rslora: v.optional(v.boolean(), false),
  use_dora: v.optional(v.boolean(), false),
  init_lora_weights: v.optional(v.union([v.boolean(), v.string()]), true),
  layers_to_transform: v.optional(v.nullable(v.union([COUNT, v.array(COUNT)])), null),
  layers_pattern: v.optional(v.nullable(v.union([v.string(), NAMES])), null),
  rank_pattern: v.optional(v.record(v.string(), RANK), {}),
  alpha_pattern: v.optional(v.record(v.string(), FINITE), {}),
  modules_to_save: v.optional(v.nullable(NAMES), null),
  ensure_weight_tying: v.optional(v.boolean(), false),
  task_type: v.optional(v.nullable(v.string()), null),
  base_model_name_or_path: v.optional(v.nullable(v.string()), null),
  inference_mode: v.optional(v.boolean(), false),
});

/** An adapter_config.json of LoRA, with PEFT's defaults filled in. */
export type LoraConfig = v.InferOutput<typeof LORA>;

/** Options of PEFT that change what the adapter computes and are not implemented. */
const UNSUPPORTED = [
  "use_qalora",
  "use_bdlora",
  "lora_bias",
  "layer_replication",
  "alora_invocation_tokens",
  "arrow_config",
  "target_parameters",
  "trainable_token_indices",
  "velora_config",
  "kasa_config",
  "monteclora_config",
  "megatron_config",
] as const;

/**
 * Checks the configuration of a LoRA adapter, but for the value of `init_lora_weights`. Unknown keys are dropped.
 * @throws FileFormatError for an invalid value, ConfigError for an option that changes the result and is not implemented.
 */
export function parseLoraConfig(config: PeftConfig, where: string): LoraConfig {
  const lora = checkSchema(LORA, config, where);
  const option = UNSUPPORTED.find((key) => isSet(config[key]));
  if (option !== undefined) throw unsupported(`${option}: ${JSON.stringify(config[option]).slice(0, 80)}`, where);
  return lora;
}

/** Rank of a module: that of the first pattern that it matches, else `r`. */
export function rankOf(config: LoraConfig, module: string): number {
  return patternValue(config.rank_pattern, module) ?? config.r;
}

/** Factor of B A x in a module: alpha / rank, or alpha / sqrt(rank) if rank-stabilised. */
export function scaleOf(config: LoraConfig, module: string): number {
  const alpha = patternValue(config.alpha_pattern, module) ?? config.lora_alpha;
  const rank = rankOf(config, module);
  return alpha / (config.use_rslora ? Math.sqrt(rank) : rank);
}

/** A LoRA configuration with PEFT's defaults for options that are left out. @throws FileFormatError for an invalid value. */
export function loraConfig(options: { readonly [K in keyof LoraConfig]?: LoraConfig[K] | undefined }): LoraConfig {
  return checkSchema(LORA, { inference_mode: true, peft_type: "LORA", ...options }, "the LoRA configuration");
}

/** The value of the first pattern that a module's path, or its end after a dot, matches. */
export function patternValue(patterns: Readonly<Record<string, number>>, module: string): number | undefined {
  const match = Object.entries(patterns).find(([pattern]) => matchesPattern(pattern, module, "suffix"));
  return match?.[1];
}

/** Whether a key changes what an adapter computes. */
export function isSet(value: unknown): boolean {
  if (value === null || value === undefined || value === false) return false;
  return typeof value !== "object" || Object.keys(value).length > 0;
}

/** The error for an option of PEFT that is not implemented, "bias: all". */
export function unsupported(option: string, where: string): ConfigError {
  return new ConfigError(
    `${where} sets ${option}, which is not implemented.`,
    "Train the adapter without this option.",
  );
}
