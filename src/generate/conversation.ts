import { DataError } from "../base/errors";
import type { ChatMessage } from "../data/chat";
import type { Continuation } from "./options";
import type { StreamOptions, TextSession } from "./stream";

/** How a conversation is written. */
export interface ConversationOptions {
  /** Most tokens of a text: what the model takes, without the adapter's virtual tokens. */
  readonly most: number;
  /** Settings of every answer. */
  readonly options: Omit<StreamOptions, "weights" | "signal">;
  /** Messages that come before the first turn and are never forgotten, such as a system's. */
  readonly first?: readonly ChatMessage[];
  /** The ids of messages, by the model's template. */
  readonly encode: (messages: readonly ChatMessage[]) => Int32Array;
}

/** Who hears what. */
export interface AnswerListeners {
  /** Receives each piece of the answer as it is written. */
  readonly write: (piece: string) => void;
  /** Receives a sentence about turns that were forgotten. */
  readonly say: (line: string) => void;
}

/** A conversation, whose oldest turns are forgotten when they no longer fit into the model's context. */
export class Conversation {
  /** Messages of a user, each with its answer. */
  #turns: ChatMessage[][] = [];
  #answers = 0;
  #signal: { aborted: boolean } | undefined;

  constructor(
    private readonly session: TextSession,
    private readonly given: ConversationOptions,
  ) {}

  reset(): void {
    this.#turns = [];
  }

  /** Stops the answer that is being written. Returns whether there was one that was not stopped yet. */
  interrupt(): boolean {
    if (!this.#signal || this.#signal.aborted) return false;
    this.#signal.aborted = true;
    return true;
  }

  /**
   * Writes the answer to a message.
   * @param maxNewTokens most tokens of this answer. Default: that of the options.
   * @returns its continuation, and whether it was interrupted.
   * @throws DataError for a message that cannot be answered, which is then forgotten.
   */
  async answer(
    content: string,
    { write, say }: AnswerListeners,
    maxNewTokens: number | undefined = this.given.options.maxNewTokens,
  ): Promise<Continuation & { readonly wasInterrupted: boolean }> {
    const { options } = this.given;
    this.#turns.push([{ role: "user", content }]);
    const signal = (this.#signal = { aborted: false });
    try {
      const ids = this.#fitted(maxNewTokens ?? 0, say);
      const limit = maxNewTokens === undefined ? {} : { maxNewTokens };
      const pieces = this.session.stream(ids, { ...options, ...this.#seed(), ...limit, signal });
      let text = "";
      let next = await pieces.next();
      for (; next.done !== true; next = await pieces.next()) {
        // A space between the template's text and the answer belongs to neither.
        const piece = text === "" ? next.value.trimStart() : next.value;
        write(piece);
        text += piece;
      }
      this.#turns.at(-1)!.push({ role: "assistant", content: text });
      this.#answers++;
      return { ...next.value, wasInterrupted: signal.aborted };
    } catch (error) {
      this.#turns.pop();
      throw error;
    } finally {
      this.#signal = undefined;
    }
  }

  /** Another seed for each answer, so that the same question is not always answered in the same words. */
  #seed(): { readonly seed?: number } {
    const { sample, seed = 0 } = this.given.options;
    return sample === true ? { seed: seed + this.#answers } : {};
  }

  /** The ids of the conversation, without its oldest turns if they leave an answer no room. */
  #fitted(maxNewTokens: number, say: AnswerListeners["say"]): Int32Array {
    const { most, first = [], encode } = this.given;
    const room = most - Math.min(maxNewTokens, Math.floor(most / 2));
    const idsFrom = (turn: number): Int32Array => encode([...first, ...this.#turns.slice(turn).flat()]);
    let forgotten = 0;
    let ids = idsFrom(0);
    while (ids.length > room && forgotten < this.#turns.length - 1) ids = idsFrom(++forgotten);
    if (ids.length > most) {
      throw new DataError(
        `the message has ${ids.length} tokens with what the template adds; the model takes at most ${most}`,
        "give a shorter one",
      );
    }
    this.#turns.splice(0, forgotten);
    const turns = forgotten === 1 ? "The oldest turn is" : `The ${forgotten} oldest turns are`;
    if (forgotten > 0) say(`${turns} forgotten: the model's context has ${most} tokens.`);
    return ids;
  }
}
