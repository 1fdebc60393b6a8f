import { albert } from "./albert";
import { bart } from "./bart";
import { deberta } from "./deberta";
import { dinov2 } from "./dinov2";
import { distilbert } from "./distilbert";
import { gemma2, gemma3 } from "./gemma";
import { gptNeoX } from "./gpt-neox";
import { gpt2 } from "./gpt2";
import { llama } from "./llama";
import { maskedLanguageModel } from "./masked-lm";
import { mistral } from "./mistral";
import type { Family } from "./model";
import { modernbert } from "./modernbert";
import { mpnet } from "./mpnet";
import { olmo2 } from "./olmo2";
import { phi3 } from "./phi3";
import { qwen2, qwen3 } from "./qwen";
import { smollm3 } from "./smollm3";
import { swin, swinv2 } from "./swin";
import { t5 } from "./t5";
import { deit, vit } from "./vit";

/** Families beside BERT's near kin. In pages further-families-later.ts takes the place of this file (tsup.config.ts). */
export const FURTHER_FAMILIES: Readonly<Record<string, Family>> = {
  gpt2,
  llama,
  bart,
  distilbert,
  albert,
  mpnet,
  modernbert,
  "deberta-v2": deberta,
  qwen2,
  qwen3,
  mistral,
  phi3,
  gemma2,
  gemma3_text: gemma3,
  olmo2,
  smollm3,
  gpt_neox: gptNeoX,
  t5,
  vit,
  deit,
  dinov2,
  swin,
  swinv2,
};

export const FURTHER_TYPES: readonly string[] = Object.keys(FURTHER_FAMILIES);

/** Heads that few runs need. */
export const FURTHER_HEADS: { readonly maskedLm?: typeof maskedLanguageModel } = { maskedLm: maskedLanguageModel };

/** Adds a family to `FURTHER_FAMILIES`, where it is not there from the start. */
export async function loadFurther(_type: string): Promise<void> {}

/** Adds what is missing to `FURTHER_HEADS`. */
export async function loadHeads(): Promise<void> {}
