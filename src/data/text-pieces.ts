import type { Tokenizer } from "./tokenizer";

/** What decodes tokens. */
export type TokenDecoder = Pick<Tokenizer, "decode">;

/** Tokens before a text that its first token's space depends on. */
const CONTEXT = 16;
/** What decoders write for bytes that are no character, or not yet. */
const NO_CHARACTER = "\ufffd";

/**
 * The text of tokens that come one by one, in pieces that never cut a character in two: bytes of an unfinished character wait for the
 * others. The text ends before the first of `stop`, and what could begin one waits, too.
 */
export class TextPieces {
  readonly #ids: number[];
  /** Tokens from here on are decoded; those before `#read` are in the pieces, or the context. */
  #start = 0;
  #read: number;
  #held = "";
  #hasStopped = false;

  /** @param context tokens before the text, such as a prompt's. */
  constructor(
    private readonly decoder: TokenDecoder,
    context: ArrayLike<number> = [],
    private readonly stop: readonly string[] = [],
  ) {
    this.#ids = Array.from(context).slice(-CONTEXT);
    this.#read = this.#ids.length;
  }

  /** Whether a stop text has come. */
  get hasStopped(): boolean {
    return this.#hasStopped;
  }

  /** The piece that a token completes; empty if it completes none. */
  add(id: number): string {
    this.#ids.push(id);
    const text = this.#unread();
    if (text === "" || text.endsWith(NO_CHARACTER)) return "";
    // A decoder strips a space from its first token, so some tokens are decoded again before those that follow.
    this.#start = this.#read;
    this.#read = this.#ids.length;
    return this.#beforeStop(text);
  }

  /** What waits, when no tokens follow. */
  end(): string {
    const text = this.#beforeStop(this.#unread()) + this.#held;
    this.#read = this.#ids.length;
    this.#held = "";
    return text;
  }

  #unread(): string {
    const before = this.decoder.decode(this.#ids.slice(this.#start, this.#read));
    return this.decoder.decode(this.#ids.slice(this.#start)).slice(before.length);
  }

  #beforeStop(added: string): string {
    if (this.#hasStopped) return "";
    const text = this.#held + added;
    this.#held = "";
    const places = this.stop.map((stop) => text.indexOf(stop)).filter((place) => place >= 0);
    if (places.length > 0) {
      this.#hasStopped = true;
      return text.slice(0, Math.min(...places));
    }
    const held = Math.max(0, ...this.stop.map((stop) => overlap(text, stop)));
    this.#held = text.slice(text.length - held);
    return text.slice(0, text.length - held);
  }
}

/** Length of the longest end of a text that a stop text begins with. */
function overlap(text: string, stop: string): number {
  let length = Math.min(text.length, stop.length - 1);
  while (length > 0 && !text.endsWith(stop.slice(0, length))) length--;
  return length;
}

/** The text of tokens that follow others, up to the first of `stop`. */
export function followingText(
  decoder: TokenDecoder,
  context: ArrayLike<number>,
  ids: readonly number[],
  stop: readonly string[] = [],
): string {
  const pieces = new TextPieces(decoder, context, stop);
  return ids.map((id) => pieces.add(id)).join("") + pieces.end();
}
