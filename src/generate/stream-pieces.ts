import { TextPieces } from "../data/text-pieces";
import { stopTexts } from "../io/generation-config";
import type { LoadedModel } from "../io/load-model";
import { generate } from "./generate";
import type { Continuation, GenerateOptions, Prompt } from "./options";
import type { StreamOptions } from "./stream";

/** Continues prompts. */
type Continue = (prompts: readonly Prompt[], options: GenerateOptions) => Promise<Continuation[]>;

/**
 * `streamText` of `./stream`, which loads this file on first use: readers of data need no model.
 * @param proceed Default: with what `generate` allocates.
 */
export async function* streamPieces(
  loaded: LoadedModel,
  prompt: Prompt,
  { signal, ...options }: StreamOptions,
  proceed: Continue = (prompts, rest) => generate(loaded, prompts, rest),
): AsyncGenerator<string, Continuation, undefined> {
  const { tokenizer, stop = stopTexts(loaded.generationConfig) } = options;
  const text = new TextPieces(tokenizer, loaded.model.encoderDecoder ? [] : prompt, stop);
  const ready: string[] = [];
  let count = 0;
  const state = {
    isOver: false,
    isLeft: false,
    wake: (): void => undefined,
    get aborted(): boolean {
      return state.isLeft || text.hasStopped || signal?.aborted === true;
    },
  };
  const onIds = (_: number, ids: readonly number[]): void => {
    for (; count < ids.length; count++) ready.push(text.add(ids[count]!));
    state.wake();
  };
  const generation = proceed([prompt], { ...options, beams: 1, signal: state, onIds }).finally(() => {
    state.isOver = true;
    state.wake();
  });
  // Its error is thrown where it is awaited, once the pieces before it are given.
  generation.catch(() => undefined);
  try {
    while (!state.isOver || ready.length > 0) {
      const piece = ready.shift();
      if (piece !== undefined && piece !== "") yield piece;
      if (ready.length === 0 && !state.isOver) await new Promise<void>((resolve) => (state.wake = resolve));
    }
    const [continuation] = await generation;
    const rest = text.end();
    if (rest !== "") yield rest;
    return continuation!;
  } finally {
    state.isLeft = true;
    await generation.catch(() => undefined);
  }
}
