import { ConfigError } from "../base/errors";
import type { LoadedModel } from "../io/load-model";
import { Executor } from "../run/executor";
import { continueTexts } from "./generate";
import { KeptCaches } from "./kept-caches";
import type { Continuation, Prompt } from "./options";
import { streamPieces } from "./stream-pieces";
import type { StreamOptions, TextSession } from "./stream";
import { InferenceStore } from "./weights";
import type { AdapterWeights } from "./weights";

/** See `openTextSession` of stream.ts. */
export class KeptTextSession implements TextSession {
  readonly #kept = new KeptCaches();
  readonly #executor: Executor;
  #isWriting = false;

  private constructor(
    private readonly loaded: LoadedModel,
    private readonly weights: AdapterWeights | undefined,
    private readonly store: InferenceStore,
  ) {
    this.#executor = new Executor(loaded.engine.device);
  }

  static async open(loaded: LoadedModel, weights: AdapterWeights | undefined): Promise<KeptTextSession> {
    return new KeptTextSession(loaded, weights, await InferenceStore.create(loaded, weights));
  }

  get reusedTokens(): number {
    return this.#kept.reused;
  }

  stream(prompt: Prompt, options: Omit<StreamOptions, "weights">): AsyncGenerator<string, Continuation, undefined> {
    return streamPieces(this.loaded, prompt, options, async (prompts, rest) => {
      if (this.#isWriting) {
        throw new ConfigError("This session is writing another text.", "Wait for its end, or open another session.");
      }
      this.#isWriting = true;
      const { loaded, weights, store } = this;
      try {
        const kept = loaded.model.encoderDecoder ? undefined : this.#kept;
        const parts = { loaded, adapter: weights?.adapter, executor: this.#executor, store, kept };
        return await continueTexts(parts, prompts, rest);
      } finally {
        this.#isWriting = false;
      }
    });
  }

  dispose(): void {
    this.#kept.dispose();
    this.#executor.dispose();
    this.store.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
