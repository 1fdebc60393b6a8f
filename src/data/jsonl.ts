import * as v from "valibot";
import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";
import { answerSamples } from "./answers";
import type { AnswerSamples } from "./answers";
import { lineError, readLines } from "./text-file";
import type { Line } from "./text-file";
import type { Tokenizer } from "./tokenizer";

const MESSAGE = v.object({ role: v.picklist(["system", "user", "assistant"]), content: v.string() });
const CHAT = v.object({ messages: v.pipe(v.array(MESSAGE), v.minLength(1)) });
const TASK = { instruction: v.string(), input: v.optional(v.string(), "") };
const INSTRUCTION = v.union([
  v.object({ ...TASK, output: v.string() }),
  // LaMini's key.
  v.pipe(
    v.object({ ...TASK, response: v.string() }),
    v.transform(({ instruction, input, response }) => ({ instruction, input, output: response })),
  ),
]);
const COMPLETION = v.union([
  v.object({ prompt: v.string(), completion: v.string() }),
  v.pipe(
    v.object({ source: v.string(), target: v.string() }),
    v.transform(({ source, target }) => ({ prompt: source, completion: target })),
  ),
]);

/** A part of a conversation. Only answers count in the loss. */
export interface Turn {
  readonly text: string;
  readonly isAnswer: boolean;
}

export type Conversation = readonly Turn[];

/**
 * Reads conversations from JSON lines. Each line is `{"messages": [{"role", "content"}]}`, `{"instruction", "input",
 * "output"}` (or "response", as in LaMini-instruction), `{"prompt", "completion"}` or `{"source", "target"}`. Blank lines are
 * skipped.
 * @throws DataError with the line for anything else, and for a conversation without an answer.
 */
export async function readConversations(place: DirectoryLike, file: string): Promise<Conversation[]> {
  const directory = await directoryAt(place);
  const where = `${file} in ${directory.name}`;
  const lines = (await readLines(directory, file)).filter(({ text }) => text.trim() !== "");
  return lines.map((line) => {
    const { number } = line;
    const conversation = conversationOf(parseJsonLine(line, where));
    if (!conversation) {
      const fact =
        "neither messages, nor instruction and output (or response), nor prompt and completion (or source and target)";
      throw lineError(where, number, fact, "give one of these forms in each line");
    }
    if (conversation.some((turn) => turn.isAnswer && turn.text.trim() !== "")) return conversation;
    throw lineError(
      where,
      number,
      "no answer to learn from",
      "give an assistant's message, an output, a response or a completion",
    );
  });
}

/** The value of a line of JSON lines. @param where name of the file in errors. @throws DataError for a line that is not JSON. */
export function parseJsonLine({ number: line, text }: Line, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    // JSON.parse throws a SyntaxError; a catch clause cannot say so.
    throw lineError(where, line, `not JSON: ${(cause as SyntaxError).message}`, "write one JSON object in each line");
  }
}

function conversationOf(value: unknown): Conversation | undefined {
  const chat = v.safeParse(CHAT, value);
  if (chat.success) {
    return chat.output.messages.flatMap(({ role, content }) => [
      { text: `<|${role}|>\n`, isAnswer: false },
      { text: `${content}\n`, isAnswer: role === "assistant" },
    ]);
  }
  const instruction = v.safeParse(INSTRUCTION, value);
  if (instruction.success) {
    const { instruction: task, input, output } = instruction.output;
    const inputSection = input === "" ? "" : `### Input:\n${input}\n\n`;
    return [
      { text: `### Instruction:\n${task}\n\n${inputSection}### Response:\n`, isAnswer: false },
      { text: output, isAnswer: true },
    ];
  }
  const completion = v.safeParse(COMPLETION, value);
  if (!completion.success) return undefined;
  return [
    { text: completion.output.prompt, isAnswer: false },
    { text: completion.output.completion, isAnswer: true },
  ];
}

/**
 * Samples of a language model, one for each conversation: its turns, with the end token after each answer. The loss counts
 * the answers and their end tokens.
 * @param options.maxLength tokens at which samples are cut. Default 512.
 * @throws DataError if no conversation has an answer within its first `maxLength` tokens.
 */
export function conversationSamples(
  conversations: readonly Conversation[],
  tokenizer: Tokenizer,
  { maxLength = 512 }: { readonly maxLength?: number } = {},
): AnswerSamples {
  const end = tokenizer.specialId("eos");
  const texts = conversations.map((turns) =>
    turns.map(({ text, isAnswer }) => {
      const ids = [...tokenizer.encode(text, undefined, { specialTokens: false }).ids];
      return { ids: isAnswer && end !== undefined ? [...ids, end] : ids, isAnswer };
    }),
  );
  return answerSamples(texts, maxLength);
}
