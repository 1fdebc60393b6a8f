import { createInterface } from "node:readline";
import * as v from "valibot";
import { DataError } from "../base/errors";
import type { ChatMessage } from "../data/chat";
import { chatEndIds, chatPrompt } from "../data/jsonl";
import { tokensBefore } from "../model/forward";
import { loadTokenizer } from "../data/tokenizer";
import { openTextSession } from "../generate/stream";
import type { StreamOptions, TextSession } from "../generate/stream";
import type { Continuation } from "../generate/options";
import { readJson } from "../io/json";
import { createModel, withHead } from "../model/families";
import { createEngine, loadModel, openDirectory } from "../node/index";
import { loadAdapter } from "../train/files";
import { CHAT, isDrawing, samplingSettings } from "./flags";
import { readOptions, UsageError } from "./options";
import type { RawOptions } from "./options";
import { readChatTemplate } from "./tasks/task-data";
import { progressOn } from "./view/progress";
import { Screen } from "./view/screen";

const CONFIG = v.record(v.string(), v.unknown());

/** Prints a line beside the conversation. */
type Say = (line: string) => void;

/** `safetape chat`: answers the lines of stdin by the model's chat template, and prints the answers as they come. */
export async function chatCommand(raw: RawOptions): Promise<void> {
  const options = readOptions(CHAT, raw);
  const directory = await openDirectory(options.model);
  const tokenizer = await loadTokenizer(directory);
  const model = createModel(withHead(await readJson(directory, "config.json", CONFIG), { task: "generation" }));
  if (model.encoderDecoder) {
    throw new UsageError(`chat is for causal models; ${model.family} has an encoder.`, "Use safetape generate.");
  }
  const template = await readChatTemplate(options.model, options.chatTemplate);
  const screen = new Screen(options.quiet);
  using engine = await createEngine();
  using loaded = await progressOn(screen)("loading weights", (onProgress) =>
    loadModel(engine, options.model, { task: "generation", weights: options.weights, onProgress }),
  );
  const weights =
    options.adapter === undefined ? undefined : await loadAdapter(await openDirectory(options.adapter), loaded);
  screen.end();
  const sampling = samplingSettings(options);
  const endIds = chatEndIds(tokenizer, template);
  const draws = isDrawing(sampling) || loaded.generationConfig["do_sample"] === true;
  using session = await openTextSession(loaded, { ...(weights && { weights }) });
  const conversation = new Conversation(
    session,
    loaded.model.maxLength - tokensBefore(weights?.adapter),
    {
      ...sampling,
      ...(draws && { sample: true }),
      tokenizer,
      ...(endIds.length > 0 && { endIds }),
      ...(options.stop && { stop: options.stop }),
      maxNewTokens: options.maxNewTokens,
    },
    options.system === undefined ? [] : [{ role: "system", content: options.system }],
    (messages) => chatPrompt(messages, tokenizer, { template }),
  );
  await talk(conversation, (line) => void process.stderr.write(`${line}\n`));
}

/**
 * Reads lines until `/quit` or their end. An interrupt stops the answer that is being written, or else ends the conversation.
 * @throws DataError or UsageError for a line of a file or a pipe that cannot be answered. In a terminal the conversation goes on.
 */
async function talk(conversation: Conversation, say: Say): Promise<void> {
  const { stdin: input, stderr: output } = process;
  const lines = createInterface({ input, ...(input.isTTY && { output }), terminal: input.isTTY, prompt: "> " });
  const interrupt = (): void => {
    if (!conversation.interrupt()) lines.close();
  };
  const prompt = (): void => {
    if (input.isTTY) lines.prompt();
  };
  const answer = async (text: string): Promise<void> => {
    try {
      if (/^\/\w+$/.test(text)) {
        throw new UsageError(`There is no command ${text}.`, "There are /reset and /quit.");
      }
      await conversation.answer(text, (piece) => void process.stdout.write(piece), say);
    } catch (error) {
      // Whoever types can give another message; a script would take what follows for answers to what it asked.
      const isLine = error instanceof DataError || error instanceof UsageError;
      if (!input.isTTY || !isLine) throw error;
      say(error.message);
    }
  };
  // A terminal's line editor gets the key, other input leaves it to the process.
  lines.on("SIGINT", interrupt);
  process.on("SIGINT", interrupt);
  if (input.isTTY) say("/reset forgets the conversation, /quit ends it, Ctrl-C stops an answer.");
  prompt();
  try {
    for await (const line of lines) {
      const text = line.trim();
      if (text === "/quit") break;
      if (text === "/reset") {
        conversation.reset();
        say("The conversation is forgotten.");
      } else if (text !== "") await answer(text);
      prompt();
    }
  } finally {
    process.off("SIGINT", interrupt);
    lines.close();
  }
}

/** A conversation, whose oldest turns are forgotten when they no longer fit into the model's context. */
class Conversation {
  /** Messages of a user, each with its answer. */
  #turns: ChatMessage[][] = [];
  #answers = 0;
  #signal: { aborted: boolean } | undefined;

  constructor(
    private readonly session: TextSession,
    /** Most tokens of a text. */
    private readonly most: number,
    private readonly options: Omit<StreamOptions, "weights">,
    private readonly first: readonly ChatMessage[],
    private readonly encode: (messages: readonly ChatMessage[]) => Int32Array,
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
   * Writes the answer to a message, and tells `say` where it did not end by itself.
   * @throws DataError for a message that cannot be answered, which is then forgotten.
   */
  async answer(content: string, write: (piece: string) => void, say: Say): Promise<void> {
    this.#turns.push([{ role: "user", content }]);
    const signal = (this.#signal = { aborted: false });
    try {
      const ids = this.#fitted(say);
      const pieces = this.session.stream(ids, { ...this.options, ...this.#seed(), signal });
      let text = "";
      let next = await pieces.next();
      for (; next.done !== true; next = await pieces.next()) {
        // A space between the template's text and the answer belongs to neither.
        const piece = text === "" ? next.value.trimStart() : next.value;
        write(piece);
        text += piece;
      }
      write("\n");
      this.#turns.at(-1)!.push({ role: "assistant", content: text });
      this.#answers++;
      const note = noteOn(next.value, signal.aborted);
      if (note !== undefined) say(note);
    } catch (error) {
      this.#turns.pop();
      throw error;
    } finally {
      this.#signal = undefined;
    }
  }

  /** Another seed for each answer, so that the same question is not always answered in the same words. */
  #seed(): { readonly seed?: number } {
    const { sample, seed = 0 } = this.options;
    return sample === true ? { seed: seed + this.#answers } : {};
  }

  /** The ids of the conversation, without its oldest turns if they leave an answer no room. */
  #fitted(say: Say): Int32Array {
    const { most } = this;
    const room = most - Math.min(this.options.maxNewTokens ?? 0, Math.floor(most / 2));
    const idsFrom = (turn: number): Int32Array => this.encode([...this.first, ...this.#turns.slice(turn).flat()]);
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

/** What is to be said about an answer that did not end by itself. */
function noteOn({ hasEnded, ids }: Continuation, isAborted: boolean): string | undefined {
  if (hasEnded) return undefined;
  return isAborted
    ? "The answer was stopped."
    : `The answer was cut after ${ids.length} tokens (--max-new-tokens, or the context).`;
}
