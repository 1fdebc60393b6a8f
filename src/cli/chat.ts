import { createInterface } from "node:readline";
import * as v from "valibot";
import { DataError } from "../base/errors";
import { chatEndIds, chatPrompt } from "../data/jsonl";
import { tokensBefore } from "../model/forward";
import { loadTokenizer } from "../data/tokenizer";
import { Conversation } from "../generate/conversation";
import { openTextSession } from "../generate/stream";
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
  const conversation = new Conversation(session, {
    most: loaded.model.maxLength - tokensBefore(weights?.adapter),
    options: {
      ...sampling,
      ...(draws && { sample: true }),
      tokenizer,
      ...(endIds.length > 0 && { endIds }),
      ...(options.stop && { stop: options.stop }),
      maxNewTokens: options.maxNewTokens,
    },
    first: options.system === undefined ? [] : [{ role: "system", content: options.system }],
    encode: (messages) => chatPrompt(messages, tokenizer, { template }),
  });
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
      const write = (piece: string): void => void process.stdout.write(piece);
      const { wasInterrupted, ...answer } = await conversation.answer(text, { write, say });
      write("\n");
      const note = noteOn(answer, wasInterrupted);
      if (note !== undefined) say(note);
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

/** What is to be said about an answer that did not end by itself. */
function noteOn({ hasEnded, ids }: Continuation, wasInterrupted: boolean): string | undefined {
  if (hasEnded) return undefined;
  return wasInterrupted
    ? "The answer was stopped."
    : `The answer was cut after ${ids.length} tokens (--max-new-tokens, or the context).`;
}
