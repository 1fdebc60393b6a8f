import { nearestNames } from "../base/nearest";

/** What transformers and PEFT call options that have other names here. */
export const ELSEWHERE: Readonly<Record<string, string>> = {
  model_name_or_path: "model",
  dataset_name: "data",
  train_file: "data",
  output_dir: "out",
  learning_rate: "lr",
  lr_scheduler_type: "schedule",
  num_train_epochs: "epochs",
  per_device_train_batch_size: "batch",
  batch_size: "batch",
  gradient_accumulation_steps: "accumulate",
  gradient_checkpointing: "recompute",
  optim: "optimizer",
  max_seq_length: "max-length",
  max_train_samples: "examples",
  label_smoothing_factor: "label-smoothing",
  eval_steps: "eval-every",
  save_steps: "checkpoint-every",
  save_total_limit: "keep-checkpoints",
  early_stopping_patience: "patience",
  resume_from_checkpoint: "resume",
  overwrite_output_dir: "overwrite",
  load_in_4bit: "weights",
  load_in_8bit: "weights",
  fp16: "activations",
  bf16: "activations",
  peft_type: "adapter",
  r: "rank",
  lora_r: "rank",
  lora_rank: "rank",
  lora_alpha: "alpha",
  lora_dropout: "dropout",
  init_lora_weights: "init",
  target_modules: "targets",
  layers_to_transform: "layers",
  num_virtual_tokens: "tokens",
  num_beams: "beams",
  no_repeat_ngram_size: "unique-ngram",
  context_length: "length",
};

/**
 * The options that a wrong one may mean: the one that other tools call so, if there is any, and those whose names are most like it.
 * @param flag as it was given, with or without hyphens at its start.
 * @param known likewise.
 */
export function nearestOptions(flag: string, known: readonly string[]): string[] {
  const [, hyphens = "", word = ""] = /^(--no-|-*)(.*)$/.exec(flag) ?? [];
  const name = word.toLowerCase().replaceAll("-", "_");
  const meant = Object.hasOwn(ELSEWHERE, name) ? ELSEWHERE[name]! : "";
  const other = known.filter((candidate) => candidate === (hyphens === "-" ? "--" : hyphens) + meant);
  return [...new Set([...other, ...nearestNames(flag, known)])].slice(0, 3);
}
