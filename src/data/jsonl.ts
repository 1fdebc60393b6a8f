import * as v from "valibot";
import { DataError } from "../base/errors";
import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";
import { answerSamples } from "./answers";
import type { AnswerSamples, TextPart } from "./answers";
import { checkMessages, plainHeader, plainTurns } from "./chat";
import type { ChatMessage, Conversation } from "./chat";
import type { ChatTemplate, RenderOptions } from "./chat-template";
import type { Span } from "./offsets";
import { lineError, readLines } from "./text-file";
import type { Line, OnBadLine } from "./text-file";
import type { Tokenizer } from "./tokenizer";

const CHAT = v.object({
  messages: v.unknown(),
  tools: v.nullish(v.array(v.unknown())),
  chat_template_kwargs: v.nullish(v.record(v.string(), v.unknown())),
});
const TASK = { instruction: v.string(), input: v.nullish(v.string(), "") };
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

/** The lines that conversations were read from, for errors about their tokens. */
const PLACES = /* @__PURE__ */ new WeakMap<Conversation, string>();

export interface ConversationOptions {
  /** The chat template that messages are written by. Default: `<|role|>`, a line end, the content, a line end. */
  readonly template?: ChatTemplate | undefined;
  /**
   * Whether each answer of a chat is learnt in a conversation of its own, after exactly the text that the model is asked with,
   * instead of all of them in one. A template that changes earlier answers once a chat goes on, as Qwen3's drops their thoughts,
   * needs it; a chat of n answers then takes n rows. Default false.
   */
  readonly eachAnswer?: boolean;
  /** Is told of a line that cannot be read, which is then left out. Default: the error is thrown. */
  readonly onBadLine?: OnBadLine | undefined;
}

/**
 * Reads conversations from JSON lines. Each line is `{"messages": [{"role", "content"}]}`, `{"instruction", "input",
 * "output"}` (or "response", as in LaMini-instruction), `{"prompt", "completion"}` or `{"source", "target"}`. Blank lines are
 * skipped. A line of messages may have `tools` and `chat_template_kwargs` for its template, and an assistant's message
 * `"weight": 0`, which leaves it out of the loss.
 * @throws DataError with the line for anything else, for messages that the template refuses, and for a conversation without an
 * answer.
 */
export async function readConversations(
  place: DirectoryLike,
  file: string,
  options: ConversationOptions = {},
): Promise<Conversation[]> {
  const directory = await directoryAt(place);
  const where = `${file} in ${directory.name}`;
  const lines = (await readLines(directory, file)).filter(({ text }) => text.trim() !== "");
  const read = (line: Line): readonly Conversation[] => {
    const { number } = line;
    const all = inLine(where, number, () => conversationsOf(parseJsonLine(line, where), options));
    if (!all) {
      const fact =
        "neither messages, nor instruction and output (or response), nor prompt and completion (or source and target)";
      throw lineError(where, number, fact, "give one of these forms in each line");
    }
    const learnt = all.filter((turns) => turns.some(({ isAnswer, text }) => isAnswer && text.trim() !== ""));
    for (const conversation of learnt) PLACES.set(conversation, `${where}, line ${number}`);
    if (learnt.length > 0) return learnt;
    throw lineError(
      where,
      number,
      "no answer to learn from",
      "give an assistant's message, an output, a response or a completion",
    );
  };
  const { onBadLine } = options;
  return lines.flatMap((line) => {
    try {
      return read(line);
    } catch (error) {
      if (!onBadLine || !(error instanceof DataError)) throw error;
      onBadLine(error, line.number);
      return [];
    }
  });
}

/** Adds the line to what is wrong with its conversation. */
export function inLine<T>(where: string, line: number, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof DataError) || error.fact.startsWith(where)) throw error;
    throw lineError(where, line, error.fact, error.remedy, { cause: error });
  }
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

function conversationsOf(
  value: unknown,
  { template, eachAnswer = false }: ConversationOptions,
): readonly Conversation[] | undefined {
  const chat = v.safeParse(CHAT, value);
  if (chat.success && chat.output.messages !== undefined) {
    const messages = checkMessages(chat.output.messages);
    const { tools, chat_template_kwargs: variables } = chat.output;
    if (!template && tools?.length) {
      throw new DataError("it has tools, which only a chat template can write", "use a model with a chat template");
    }
    const given = { tools: tools ?? undefined, variables: variables ?? undefined };
    const turnsOf = (chat: readonly ChatMessage[]) => template?.turns(chat, given) ?? plainTurns(chat);
    return eachAnswer ? chatsByAnswer(messages).map(turnsOf) : [turnsOf(messages)];
  }
  const instruction = v.safeParse(INSTRUCTION, value);
  if (instruction.success) {
    const { instruction: task, input, output } = instruction.output;
    const inputSection = !input ? "" : `### Input:\n${input}\n\n`;
    const turns = [
      { text: `### Instruction:\n${task}\n\n${inputSection}### Response:\n`, isAnswer: false },
      { text: output, isAnswer: true },
    ];
    return [turns];
  }
  const completion = v.safeParse(COMPLETION, value);
  if (!completion.success) return undefined;
  const { prompt, completion: answer } = completion.output;
  const turns = [
    { text: prompt, isAnswer: false },
    { text: answer, isAnswer: true },
  ];
  return [turns];
}

/** A chat up to each answer that is learnt, of which that answer alone is learnt. */
function chatsByAnswer(messages: readonly ChatMessage[]): ChatMessage[][] {
  const isLearnt = ({ role, weight }: ChatMessage): boolean => role === "assistant" && weight !== 0;
  return messages.flatMap((message, last) => {
    if (!isLearnt(message)) return [];
    const earlier = messages
      .slice(0, last)
      .map((other) => (isLearnt(other) ? { ...other, weight: 0 as const } : other));
    return [[...earlier, message]];
  });
}

/**
 * Samples of a language model, one for each conversation: the tokenizer's begin tokens, and its turns, with the end token after
 * each answer. The loss counts the answers and their end tokens. Texts of chat templates have these tokens already.
 * @param options.maxLength tokens at which samples are cut. Default 512.
 * @param options.vocabularySize size of the model's vocabulary. Larger ids are errors. Default: no limit.
 * @throws DataError if no conversation has an answer within its first `maxLength` tokens, and with the line for a token that the
 * model does not have.
 */
export function conversationSamples(
  conversations: readonly Conversation[],
  tokenizer: Tokenizer,
  {
    maxLength = 512,
    vocabularySize = Infinity,
  }: { readonly maxLength?: number; readonly vocabularySize?: number } = {},
): AnswerSamples {
  const partsOf = (turns: Conversation, index: number) => {
    const parts = conversationParts(turns, tokenizer);
    const unknown = parts.flatMap(({ ids }) => ids).find((id) => id >= vocabularySize);
    if (unknown === undefined) return parts;
    const token = JSON.stringify(tokenizer.decode([unknown], { keepSpecial: true }));
    throw new DataError(
      `${PLACES.get(turns) ?? `conversation ${index + 1}`}: the token ${token} has the id ${unknown}, but the model's vocabulary has ${vocabularySize}`,
      "use the tokenizer that belongs to the model",
    );
  };
  return answerSamples(conversations.map(partsOf), maxLength);
}

/** @throws DataError where nothing says how answers end: a model that has not learnt to end goes on. */
export function checkAnswersEnd(conversations: readonly Conversation[], tokenizer: Tokenizer): void {
  const needEnd = conversations.some((turns) => turns.some(({ isAnswer, isComplete }) => isAnswer && !isComplete));
  if (!needEnd || tokenizer.endIds.length > 0) return;
  throw new DataError(
    "no file of the model names the token that ends a text, so that answers would have no end",
    "add eos_token to tokenizer_config.json, or eos_token_id to config.json",
  );
}

/** The tokens of a conversation: what its turns become in a sample. */
export const conversationParts = (turns: Conversation, tokenizer: Tokenizer): TextPart[] =>
  turns.some((turn) => turn.isComplete) ? completeParts(turns, tokenizer) : plainParts(turns, tokenizer);

function plainParts(turns: Conversation, tokenizer: Tokenizer): TextPart[] {
  const [end] = tokenizer.endIds;
  const parts = turns.map(({ text, isAnswer, weight, ends = isAnswer }) => {
    const ids = [...tokenizer.encode(text, undefined, { specialTokens: false }).ids];
    return { ids: ends && end !== undefined ? [...ids, end] : ids, isAnswer, ...(weight !== undefined && { weight }) };
  });
  return [{ ids: tokenizer.beginIds, isAnswer: false }, ...parts];
}

/** The tokens of a text that has its special tokens already. A token that spells a part of an answer belongs to it. */
function completeParts(turns: Conversation, tokenizer: Tokenizer): TextPart[] {
  const answers: { readonly span: Span; readonly weight: number | undefined }[] = [];
  let text = "";
  for (const turn of turns) {
    if (turn.isAnswer) answers.push({ span: [text.length, text.length + turn.text.length], weight: turn.weight });
    text += turn.text;
  }
  const { ids, spans } = tokenizer.encode(text, undefined, { specialTokens: false });
  return spans.map(([start, end], i) => {
    const answer = answers.find(({ span: [from, to] }) => start < to && end > from);
    return {
      ids: [ids[i]!],
      isAnswer: answer !== undefined,
      ...(answer?.weight !== undefined && { weight: answer.weight }),
    };
  });
}

/** The ids of a text to continue, which begin as samples do: after the tokenizer's begin tokens. */
export function promptIds(text: string, tokenizer: Tokenizer): Int32Array {
  return Int32Array.from([...tokenizer.beginIds, ...tokenizer.encode(text, undefined, { specialTokens: false }).ids]);
}

/**
 * The ids of messages to answer, as `readConversations` and `conversationSamples` write them for training.
 * @throws DataError for messages that the template refuses, or that cannot be written without one.
 */
export function chatPrompt(
  messages: readonly ChatMessage[],
  tokenizer: Tokenizer,
  { template, tools, variables }: ConversationOptions & Pick<RenderOptions, "tools" | "variables"> = {},
): Int32Array {
  if (template) {
    const text = template.render(messages, { tools, variables, addGenerationPrompt: true });
    return tokenizer.encode(text, undefined, { specialTokens: false }).ids;
  }
  const turns = [...plainTurns(messages), { text: plainHeader("assistant"), isAnswer: false }];
  return Int32Array.from(plainParts(turns, tokenizer).flatMap(({ ids }) => ids));
}

/** What no chat template says by itself. */
const CONTENT = "\u2603";

/**
 * Ids of the tokens that end an answer: those that end a text, and the special token that a template writes after an answer.
 * Models whose chats end in other tokens than their texts would otherwise go on.
 * @throws DataError where the template refuses a user's message and an answer.
 */
export function chatEndIds(tokenizer: Tokenizer, template?: ChatTemplate): readonly number[] {
  if (!template) return tokenizer.endIds;
  const messages = ["user", "assistant"].map((role) => ({ role, content: CONTENT }));
  const text = template.render(messages);
  const after = text.slice(text.lastIndexOf(CONTENT) + CONTENT.length).trimStart();
  const [first] = tokenizer.encode(after, undefined, { specialTokens: false }).ids;
  const isSpecial =
    first !== undefined && tokenizer.decode([first], { keepSpecial: true }) !== tokenizer.decode([first]);
  return isSpecial ? [...new Set([...tokenizer.endIds, first])] : tokenizer.endIds;
}
