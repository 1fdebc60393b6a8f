import * as v from "valibot";
import { DataError } from "../base/errors";

/** A part of a message's content. */
export interface ContentPart {
  readonly type: "text";
  readonly text: string;
}

/** A message of a chat, with whatever else the model's template reads of it (`tool_calls`, `name`). */
export interface ChatMessage {
  readonly role: string;
  /** Null where an assistant calls tools. */
  readonly content?: string | null | readonly ContentPart[];
  /** Of an assistant's message: how much each of its tokens counts in the loss beside those of others. Default 1; 0 is not learnt. */
  readonly weight?: number;
  readonly [key: string]: unknown;
}

/** A part of a conversation. Only answers count in the loss. */
export interface Turn {
  readonly text: string;
  readonly isAnswer: boolean;
  /** Of an answer: how much each of its tokens counts in the loss beside those of others. Default 1. */
  readonly weight?: number;
  /** Whether an end token follows. Default: after answers. */
  readonly ends?: boolean;
  /** Whether the text has its special tokens already, as a chat template writes them: none are added. All turns agree. */
  readonly isComplete?: boolean;
}

export type Conversation = readonly Turn[];

/** Range of weights above 0: relations beyond it are no one's intention, and 32-bit sums would lose the smaller part. */
const [LEAST_WEIGHT, LARGEST_WEIGHT] = [1e-3, 1e3];

/** Roles of messages without a chat template. */
const ROLES = ["system", "developer", "user", "assistant", "tool"];

const MESSAGE = v.looseObject({ role: v.pipe(v.string(), v.minLength(1)) });
const TEXT_PART = v.looseObject({ type: v.literal("text"), text: v.string() });

/**
 * Checks messages.
 * @throws DataError naming the message and what is wrong with it.
 */
export function checkMessages(messages: unknown): readonly ChatMessage[] {
  if (!Array.isArray(messages) || messages.length === 0) {
    throw new DataError(
      "messages is not a list with at least one message",
      'write {"messages": [{"role", "content"}]}',
    );
  }
  return messages.map((message: unknown, i) => checkMessage(message, i + 1));
}

function checkMessage(message: unknown, number: number): ChatMessage {
  const { success, output } = v.safeParse(MESSAGE, message);
  if (!success) throw new DataError(`message ${number} has no role`, "give every message a role and a content");
  const { role, content } = output;
  const given = output["weight"] ?? 1;
  // axolotl has true and false as well.
  const weight = typeof given === "boolean" ? Number(given) : given;
  const where = `message ${number} (${role.slice(0, 40)})`;
  if (typeof weight !== "number" || !(weight === 0 || (weight >= LEAST_WEIGHT && weight <= LARGEST_WEIGHT))) {
    throw new DataError(
      `${where} has the weight ${JSON.stringify(given).slice(0, 40)}`,
      `give 1 to learn it, 0 not to, or a number from ${LEAST_WEIGHT} to ${LARGEST_WEIGHT} that its tokens count beside those of weight 1`,
    );
  }
  if (role !== "assistant" && (output["weight"] ?? undefined) !== undefined && weight !== 0) {
    throw new DataError(`${where} has the weight ${weight}, but is not an assistant's`, "only answers are learnt");
  }
  const checked = { ...output, weight };
  if (typeof content === "string") return { ...checked, content };
  if (Array.isArray(content)) return { ...checked, content: content.map((part) => checkPart(part, where)) };
  if (content !== undefined && content !== null) {
    throw new DataError(`${where} has a content that is ${typeof content}`, "give a text, or a list of parts");
  }
  if (hasToolCalls(output)) return { ...checked, content: null };
  throw new DataError(`${where} has no content`, "give a text, or tool_calls of an assistant");
}

function checkPart(part: unknown, where: string): ContentPart {
  if (typeof part === "string") return { type: "text", text: part };
  if (v.is(TEXT_PART, part)) return part;
  const type: unknown = v.is(v.looseObject({ type: v.string() }), part) ? part.type : undefined;
  throw new DataError(
    `${where} has a part of the type ${JSON.stringify(type ?? null).slice(0, 40)} in its content`,
    'only texts can be read: {"type": "text", "text": ...}',
  );
}

function hasToolCalls({ tool_calls: calls }: Readonly<Record<string, unknown>>): boolean {
  return Array.isArray(calls) && calls.length > 0;
}

/** The text of a message's content. */
export function contentText({ content }: ChatMessage): string {
  return typeof content === "string" ? content : (content ?? []).map(({ text }) => text).join("");
}

/**
 * Messages as text for a model without a chat template: `<|role|>`, a line end, the content, a line end.
 * @throws DataError for a role that is not system, developer, user, assistant or tool, and for calls of tools.
 */
export function plainTurns(messages: readonly ChatMessage[]): Conversation {
  return messages.flatMap((message, i): Turn[] => {
    const { role, weight = 1 } = message;
    const where = `message ${i + 1} (${role.slice(0, 40)})`;
    if (!ROLES.includes(role)) {
      throw new DataError(
        `${where} has a role that is not one of ${ROLES.join(", ")}`,
        "correct it, or use a model with a chat template",
      );
    }
    if (hasToolCalls(message)) {
      throw new DataError(
        `${where} has tool_calls, which only a chat template can write`,
        "use a model with a chat template",
      );
    }
    const isAssistant = role === "assistant";
    const text = `${contentText(message)}\n`;
    return [
      { text: plainHeader(role), isAnswer: false },
      isAssistant && weight === 0
        ? { text, isAnswer: false, ends: true }
        : { text, isAnswer: isAssistant, ...(isAssistant && weight !== 1 && { weight }) },
    ];
  });
}

/** What precedes the content of a message without a chat template. */
export const plainHeader = (role: string): string => `<|${role}|>\n`;
