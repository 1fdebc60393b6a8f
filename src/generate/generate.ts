import type { LoadedModel } from "../io/load-model";
import { Executor } from "../run/executor";
import type { Continuation, GenerateOptions, Prompt } from "./options";
import type { GenerationParts } from "./session";
import { InferenceStore } from "./weights";
import type { AdapterWeights } from "./weights";

/**
 * Continues prompts with a language model, and returns the continuations in the same order. Keys and values of earlier
 * tokens are cached, so each new token takes a forward pass of one token.
 * @param options.weights an adapter from `loadAdapter`. Default: the model as it was loaded.
 * @throws ConfigError for a model without a language head and for options out of range, DataError for a prompt that is empty
 * or too long or has an unknown id, NotFiniteError for logits that are not finite.
 */
export async function generate(
  loaded: LoadedModel,
  prompts: readonly Prompt[],
  options: GenerateOptions & { readonly weights?: AdapterWeights } = {},
): Promise<Continuation[]> {
  const { weights, ...rest } = options;
  using store = await InferenceStore.create(loaded, weights);
  using executor = new Executor(loaded.engine.device);
  return await continueTexts({ loaded, adapter: weights?.adapter, executor, store }, prompts, rest);
}

/** `continueTexts` of `./continue`, which is loaded on first use, since most programs only train. */
export async function continueTexts(
  parts: GenerationParts,
  prompts: readonly Prompt[],
  options: GenerateOptions,
): Promise<Continuation[]> {
  const { continueTexts: load } = await import("./continue");
  return load(parts, prompts, options);
}
