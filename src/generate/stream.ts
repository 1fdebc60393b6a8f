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
