import type { LoadedModel } from "../io/load-model";
import { Executor } from "../run/executor";
import { continueTexts } from "./later";
import type { Continuation, GenerateOptions } from "./options";
import { InferenceStore } from "./weights";
import type { AdapterWeights } from "./weights";

/** A prompt: token ids, without padding. */
export type Prompt = ArrayLike<number>;

/**
 * Continues prompts with a language model, in order; `weights` is an adapter that `loadAdapter` gave. Keys and values of
 * earlier tokens are kept, so each new token costs one pass of one token.
 * @throws ConfigError for a model without a language head or an option that makes no sense, DataError for an empty or too
 * long prompt or an unknown id, NotFiniteError for logits that are not finite.
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
