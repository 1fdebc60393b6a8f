/** Names of SentencePiece's models in published checkpoints. */
export const SENTENCEPIECE_FILES = ["tokenizer.model", "spiece.model", "spm.model", "sentencepiece.bpe.model"] as const;

/** The files beside a model's weights that say how its texts are read and written. */
export const TEXT_FILES = [
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "chat_template.jinja",
  "generation_config.json",
] as const;
