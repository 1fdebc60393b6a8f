// Texts by the model as it was and with what a run has learnt, side by side.
import { chatEndIds, chatPrompt, promptIds } from "../../../src/data/jsonl";
import { Conversation } from "../../../src/generate/conversation";
import type { Continuation } from "../../../src/generate/options";
import { openTextSession } from "../../../src/generate/stream";
import type { TextSession } from "../../../src/generate/stream";
import type { StudioEvent } from "../protocol";
import type { OpenedModel } from "./model";
import type { Run } from "./run";

interface Writer {
  /** Writes an answer, and says where it did not end by itself. */
  answer(message: string, maxNewTokens: number): Promise<string>;
  /** Ends the answer that is being written. */
  stop(): void;
  /** Forgets what was said. */
  reset(): void;
}

/** The two writers of a run, whose sessions keep what was computed of a conversation. It must be disposed of. */
export class Writers {
  readonly #sessions: TextSession[] = [];
  readonly #writers: Writer[] = [];
  #signal = { aborted: false };

  /** @param isChat whether messages are turns of a conversation in the model's template. */
  static async open(
    run: Run,
    model: OpenedModel,
    isChat: boolean,
    emit: (event: StudioEvent) => void,
  ): Promise<Writers> {
    const writers = new Writers();
    try {
      for (const side of ["base", "tuned"] as const) {
        const session = await openTextSession(run.loaded, side === "tuned" ? { weights: await run.weights() } : {});
        writers.#sessions.push(session);
        const write = (text: string): void => emit({ type: "piece", of: side, text });
        writers.#writers.push(
          isChat ? await chat(session, run, model, write) : await plain(session, run, model, write),
        );
      }
      return writers;
    } catch (error) {
      writers.dispose();
      throw error;
    }
  }

  /** Answers a message by both, one after the other. @returns what is to be said about the answers. */
  async answer(message: string, maxNewTokens: number): Promise<string> {
    const signal: { aborted: boolean } = { aborted: false };
    this.#signal = signal;
    const notes: string[] = [];
    for (const writer of this.#writers) {
      if (!signal.aborted) notes.push(await writer.answer(message, maxNewTokens));
    }
    return [...new Set(notes)].filter((note) => note !== "").join(" ");
  }

  stop(): void {
    this.#signal.aborted = true;
    for (const writer of this.#writers) writer.stop();
  }

  reset(): void {
    for (const writer of this.#writers) writer.reset();
  }

  dispose(): void {
    for (const session of this.#sessions) session.dispose();
  }
}

const noteOn = ({ hasEnded, ids }: Continuation, wasStopped: boolean): string =>
  hasEnded ? "" : wasStopped ? "The answer was stopped." : `The answer was cut after ${ids.length} tokens.`;

/** Answers each message in the light of those before. */
async function chat(
  session: TextSession,
  run: Run,
  model: OpenedModel,
  write: (piece: string) => void,
): Promise<Writer> {
  const [tokenizer, template] = [await model.tokenizer(), await model.chatTemplate()];
  const endIds = chatEndIds(tokenizer, template);
  const conversation = new Conversation(session, {
    most: run.loaded.model.maxLength,
    options: { tokenizer, ...(endIds.length > 0 && { endIds }) },
    encode: (messages) => chatPrompt(messages, tokenizer, { template }),
  });
  return {
    answer: async (message, maxNewTokens) => {
      const notes: string[] = [];
      const say = (line: string): void => void notes.push(line);
      const { wasInterrupted, ...written } = await conversation.answer(message, { write, say }, maxNewTokens);
      return [...notes, noteOn(written, wasInterrupted)].join(" ").trim();
    },
    stop: () => conversation.interrupt(),
    reset: () => conversation.reset(),
  };
}

/** Goes on from each text by itself. */
async function plain(
  session: TextSession,
  run: Run,
  model: OpenedModel,
  write: (piece: string) => void,
): Promise<Writer> {
  const tokenizer = await model.tokenizer();
  const { endIds } = tokenizer;
  let signal = { aborted: false };
  return {
    answer: async (message, maxNewTokens) => {
      signal = { aborted: false };
      const prompt = run.loaded.model.encoderDecoder ? tokenizer.encode(message).ids : promptIds(message, tokenizer);
      const options = { tokenizer, maxNewTokens, signal, ...(endIds.length > 0 && { endIds }) };
      const pieces = session.stream(prompt, options);
      let next = await pieces.next();
      for (; next.done !== true; next = await pieces.next()) write(next.value);
      return noteOn(next.value, signal.aborted);
    },
    stop: () => void (signal.aborted = true),
    reset: () => undefined,
  };
}
