import type { TokenDecoder } from "../data/text-pieces";
import type { LoadedModel } from "../io/load-model";
import type { Continuation, GenerateOptions, Prompt } from "./options";
import type { AdapterWeights } from "./weights";

/** How `streamText` continues a prompt: without beams, whose text changes until it ends. */
export interface StreamOptions extends Omit<GenerateOptions, "beams" | "batchSize" | "onDone" | "onIds"> {
  readonly tokenizer: TokenDecoder;
  /** An adapter from `loadAdapter`. Default: the model as it was loaded. */
  readonly weights?: AdapterWeights;
}

/** Texts of one model and adapter, one after the other, which keep the keys and values of the last one. It must be disposed of. */
export interface TextSession {
  /** Tokens of the last prompt that were not computed again. */
  readonly reusedTokens: number;
  /**
   * Continues a prompt as `streamText` does, and computes the tokens alone in which it differs from the last text and its continuation. Results
   * are the same to rounding.
   * @throws what `generate` throws, and ConfigError while another text is written.
   */
  stream(prompt: Prompt, options: Omit<StreamOptions, "weights">): AsyncGenerator<string, Continuation, undefined>;
  /** Frees the caches, and the adapter's memory. The model stays. */
  dispose(): void;
  [Symbol.dispose](): void;
}

/**
 * Opens a session for a conversation, whose prompts each begin with the last one and its answer. The caches have room for a power of two of
 * tokens and grow with the texts. Beside an encoder nothing is kept.
 * @param options.weights an adapter from `loadAdapter`. Default: the model as it was loaded.
 * @throws OutOfMemoryError; nothing stays allocated then.
 */
export async function openTextSession(
  loaded: LoadedModel,
  { weights }: { readonly weights?: AdapterWeights } = {},
): Promise<TextSession> {
  const { KeptTextSession } = await import("./text-session");
  return KeptTextSession.open(loaded, weights);
}

/**
 * Continues a prompt as `generate` does, and gives the text in pieces as soon as they are there. They never cut a character in two, and end
 * before the first text of `stop`. Leaving the loop ends generation and frees its memory.
 * @returns the continuation.
 * @throws what `generate` throws.
 */
export async function* streamText(
  loaded: LoadedModel,
  prompt: Prompt,
  options: StreamOptions,
): AsyncGenerator<string, Continuation, undefined> {
  const { streamPieces } = await import("./stream-pieces");
  return yield* streamPieces(loaded, prompt, options);
}
