import type { maskedLanguageModel } from "./masked-lm";
import type { Family } from "./model";

/** Loads a family, by `model_type`. */
const LOADERS: Readonly<Record<string, () => Promise<Family>>> = {
  gpt2: async () => (await import("./gpt2")).gpt2,
  llama: async () => (await import("./llama")).llama,
  bart: async () => (await import("./bart")).bart,
  distilbert: async () => (await import("./distilbert")).distilbert,
  albert: async () => (await import("./albert")).albert,
  mpnet: async () => (await import("./mpnet")).mpnet,
  modernbert: async () => (await import("./modernbert")).modernbert,
  "deberta-v2": async () => (await import("./deberta")).deberta,
  qwen2: async () => (await import("./qwen")).qwen2,
  qwen3: async () => (await import("./qwen")).qwen3,
  mistral: async () => (await import("./mistral")).mistral,
  phi3: async () => (await import("./phi3")).phi3,
  gemma2: async () => (await import("./gemma")).gemma2,
  gemma3_text: async () => (await import("./gemma")).gemma3,
  olmo2: async () => (await import("./olmo2")).olmo2,
  smollm3: async () => (await import("./smollm3")).smollm3,
  gpt_neox: async () => (await import("./gpt-neox")).gptNeoX,
  t5: async () => (await import("./t5")).t5,
  vit: async () => (await import("./vit")).vit,
  deit: async () => (await import("./vit")).deit,
  dinov2: async () => (await import("./dinov2")).dinov2,
  swin: async () => (await import("./swin")).swin,
  swinv2: async () => (await import("./swin")).swinv2,
};

/** As in further-families.ts; those that were loaded. */
export const FURTHER_FAMILIES: Record<string, Family> = {};

export const FURTHER_TYPES: readonly string[] = Object.keys(LOADERS);

export async function loadFurther(type: string): Promise<void> {
  FURTHER_FAMILIES[type] ??= await LOADERS[type]!();
}

/** As in further-families.ts; those that were loaded. */
export const FURTHER_HEADS: { maskedLm?: typeof maskedLanguageModel } = {};

export async function loadHeads(): Promise<void> {
  FURTHER_HEADS.maskedLm ??= (await import("./masked-lm")).maskedLanguageModel;
}
