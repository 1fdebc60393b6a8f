import * as v from "valibot";
import { DataError } from "../base/errors";
import { checkMessages, contentText, plainHeader, plainTurns } from "../data/chat";
import type { ChatMessage, Conversation } from "../data/chat";
import type { RenderOptions } from "../data/chat-template";
import { inLine, parseJsonLine } from "../data/jsonl";
import type { ConversationOptions } from "../data/jsonl";
import { readLines } from "../data/text-file";
import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";

/** Two answers to one prompt, of which people or models prefer one. Each is the whole text, of which the answer alone counts. */
export interface Preference {
  readonly chosen: Conversation;
  readonly rejected: Conversation;
  /** The file and the line, for errors. */
  readonly place: string;
}

const LAYOUT = 'write {"prompt", "chosen", "rejected"}, each a text or a list of messages';

const LINE = v.object({
  prompt: v.nullish(v.union([v.string(), v.array(v.unknown())])),
  chosen: v.nullish(v.union([v.string(), v.array(v.unknown())])),
  rejected: v.nullish(v.union([v.string(), v.array(v.unknown())])),
  tools: v.nullish(v.array(v.unknown())),
  chat_template_kwargs: v.nullish(v.record(v.string(), v.unknown())),
});

/**
 * Reads preferences from JSON lines in TRL's layout: `{"prompt", "chosen", "rejected"}`, all texts or all lists of messages. Without `prompt`, or
 * with a text beside messages, the prompt is what both answers begin with. Messages are written by the chat template, where there is
 * one, and everything after the prompt counts as the answer. Blank lines are skipped.
 * @throws DataError with the line for a missing field, an answer without text, answers that are the same, a prompt that their texts do not
 * begin with, and messages that the template refuses.
 */
export async function readPreferences(
  place: DirectoryLike,
  file: string,
  { template }: ConversationOptions = {},
): Promise<Preference[]> {
  const directory = await directoryAt(place);
  const where = `${file} in ${directory.name}`;
  const lines = (await readLines(directory, file)).filter(({ text }) => text.trim() !== "");
  return lines.map((line) => {
    const { number } = line;
    const value = parseJsonLine(line, where);
    return inLine(where, number, () => ({ ...preferenceOf(value, template), place: `${where}, line ${number}` }));
  });
}

type Template = ConversationOptions["template"];
type Answers<T> = { readonly prompt: T; readonly chosen: T; readonly rejected: T };

function preferenceOf(value: unknown, template: Template): Omit<Preference, "place"> {
  const { success, output } = v.safeParse(LINE, value);
  if (!success) throw new DataError("not a prompt, a chosen and a rejected answer", LAYOUT);
  const { prompt, chosen, rejected, tools, chat_template_kwargs: variables } = output;
  if (chosen === undefined || chosen === null) throw new DataError("it has no chosen answer", LAYOUT);
  if (rejected === undefined || rejected === null) throw new DataError("it has no rejected answer", LAYOUT);
  if (typeof chosen === "string" && typeof rejected === "string") {
    if (Array.isArray(prompt)) throw new DataError("its prompt is messages, and its answers are texts", LAYOUT);
    const texts = typeof prompt === "string" ? { prompt, chosen, rejected } : withoutPrompt(chosen, rejected);
    const conversation = (answer: string): Conversation => [
      { text: texts.prompt, isAnswer: false },
      { text: answer, isAnswer: true },
    ];
    return checked({ chosen: conversation(texts.chosen), rejected: conversation(texts.rejected) });
  }
  if (typeof chosen === "string" || typeof rejected === "string") {
    throw new DataError("one of its answers is a text and the other one messages", LAYOUT);
  }
  const messages = messagesOf(prompt ?? undefined, chosen, rejected);
  for (const field of ["chosen", "rejected"] as const) {
    const weighed = messages[field].find(({ role, weight }) => role === "assistant" && weight !== 1);
    if (weighed) {
      throw new DataError(
        `a message of its ${field} answer has the weight ${weighed.weight}`,
        "leave it out: pairs compare complete answers",
      );
    }
    const isEmpty = messages[field].every((message) => contentText(message).trim() === "" && !message["tool_calls"]);
    if (isEmpty) throw emptyAnswer(field);
  }
  const written = writer(messages.prompt, { tools: tools ?? undefined, variables: variables ?? undefined }, template);
  return checked({ chosen: written("chosen", messages.chosen), rejected: written("rejected", messages.rejected) });
}

const emptyAnswer = (field: string): DataError =>
  new DataError(`its ${field} answer is empty`, "write one, or leave the line out");

/** @throws DataError for an answer without text, and for answers that are the same. */
function checked(preference: Omit<Preference, "place">): Omit<Preference, "place"> {
  const [chosen, rejected] = (["chosen", "rejected"] as const).map((field) => {
    const answer = preference[field].filter(({ isAnswer }) => isAnswer).map(({ text }) => text);
    if (answer.join("").trim() === "") throw emptyAnswer(field);
    return answer.join("");
  });
  if (chosen !== rejected) return preference;
  throw new DataError("its chosen and its rejected answer are the same", "leave the line out: it prefers neither");
}

/** Texts without the beginning that they share, which is the prompt; a space before what differs belongs to the answers, as in TRL. */
function withoutPrompt(chosen: string, rejected: string): Answers<string> {
  const shortest = Math.min(chosen.length, rejected.length);
  let end = 0;
  while (end < shortest && chosen[end] === rejected[end]) end++;
  // Half of a character outside the Basic Multilingual Plane is no text.
  if (/[\uD800-\uDBFF]/.test(chosen[end - 1] ?? "") || chosen[end - 1] === " ") end--;
  if (end <= 0) throw noPrompt();
  return { prompt: chosen.slice(0, end), chosen: chosen.slice(end), rejected: rejected.slice(end) };
}

const noPrompt = (): DataError =>
  new DataError("it has no prompt, and its answers do not begin alike", "give the prompt they answer");

function messagesOf(
  prompt: string | readonly unknown[] | undefined,
  chosen: readonly unknown[],
  rejected: readonly unknown[],
): Answers<readonly ChatMessage[]> {
  const answers = { chosen: checkedMessages("chosen", chosen), rejected: checkedMessages("rejected", rejected) };
  if (typeof prompt === "object") return { prompt: checkedMessages("prompt", prompt), ...answers };
  const shortest = Math.min(chosen.length, rejected.length);
  let end = 0;
  while (end < shortest && JSON.stringify(chosen[end]) === JSON.stringify(rejected[end])) end++;
  if (end === 0) throw noPrompt();
  const shared = answers.chosen.slice(0, end);
  if (prompt !== undefined && !shared.some((message) => contentText(message) === prompt)) {
    throw new DataError(
      "its prompt is none of the messages that both answers begin with",
      "leave it out, or give the prompt's messages and the answers' alone",
    );
  }
  return { prompt: shared, chosen: answers.chosen.slice(end), rejected: answers.rejected.slice(end) };
}

/** Checks messages. @throws DataError for an empty list, and as `checkMessages`. */
function checkedMessages(field: string, messages: readonly unknown[]): readonly ChatMessage[] {
  if (messages.length === 0) throw new DataError(`its ${field} is empty`, LAYOUT);
  try {
    return checkMessages(messages);
  } catch (error) {
    if (!(error instanceof DataError)) throw error;
    throw new DataError(`${error.fact} (of ${field})`, error.remedy, { cause: error });
  }
}

/** Writes answers after a prompt, by the template or in plain roles. */
function writer(
  prompt: readonly ChatMessage[],
  options: Pick<RenderOptions, "tools" | "variables">,
  template: Template,
): (field: string, answer: readonly ChatMessage[]) => Conversation {
  const checkAnswer = (field: string, [first]: readonly ChatMessage[]): void => {
    if (first?.role === "assistant") return;
    throw new DataError(
      `its ${field} answer begins with a message of ${String(first?.role).slice(0, 40)}`,
      "begin answers with the assistant's message; leave the prompt's messages out, or leave out prompt",
    );
  };
  if (!template) {
    if (options.tools?.length) {
      throw new DataError("it has tools, which only a chat template can write", "use a model with a chat template");
    }
    const asked: Conversation = [...plainTurns(prompt), { text: plainHeader("assistant"), isAnswer: false }];
    return (field, answer) => {
      checkAnswer(field, answer);
      const [, ...turns] = plainTurns(answer);
      return [...asked, ...turns.map((turn) => ({ ...turn, ends: turn.ends ?? turn.isAnswer, isAnswer: true }))];
    };
  }
  const asked = template.render(prompt, { ...options, addGenerationPrompt: true });
  return (field, answer) => {
    checkAnswer(field, answer);
    const text = template.render([...prompt, ...answer], options);
    if (!text.startsWith(asked)) {
      throw new DataError(
        `the chat template writes the prompt in another way once its ${field} answer follows`,
        "give earlier answers as the template keeps them, or another template (--chat-template)",
      );
    }
    return [
      { text: asked, isAnswer: false, isComplete: true },
      { text: text.slice(asked.length), isAnswer: true, isComplete: true },
    ];
  };
}
