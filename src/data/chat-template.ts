import * as v from "valibot";
import { DataError, FileFormatError } from "../base/errors";
import type { Directory } from "../io/directory";
import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";
import { decodeText, oneLine } from "../io/json";
import { contentText } from "./chat";
import type { ChatMessage, Conversation, Turn } from "./chat";
import { contentOf, readTokenizerConfig, SPECIAL_ROLES, TOKENIZER_CONFIG_FILE } from "./tokenizer-file";

export const CHAT_TEMPLATE_FILE = "chat_template.jinja";

/** What a chat template reads in addition to messages. */
export interface RenderOptions {
  /** Tools that the model may call, as JSON schemas. */
  readonly tools?: readonly unknown[] | undefined;
  /** Whether the text ends where an answer begins. Default false. */
  readonly addGenerationPrompt?: boolean;
  /** Further variables of the template, such as `enable_thinking`. */
  readonly variables?: Readonly<Record<string, unknown>> | undefined;
}

/** How a model's chats are written as text: its own Jinja template. */
export interface ChatTemplate {
  /**
   * The text of messages, as transformers' `apply_chat_template` writes it.
   * @throws DataError with the template's own message where it refuses the messages.
   */
  render(messages: readonly ChatMessage[], options?: RenderOptions): string;
  /**
   * The text in turns, of which the assistant's messages (but those of weight 0) are answers: what `{% generation %}` encloses or,
   * in a template without it, what each adds to the text that is there when it is to be written.
   * @throws DataError as `render`, and where the text does not say what belongs to an answer.
   */
  turns(messages: readonly ChatMessage[], options?: Omit<RenderOptions, "addGenerationPrompt">): Conversation;
}

const NAMED = v.array(v.object({ name: v.string(), template: v.string() }));

/**
 * Loads the chat template of a model's directory: chat_template.jinja, else `chat_template` of tokenizer_config.json. Undefined
 * if there is none. The template engine is imported on first use.
 * @param options.source a Jinja template in place of the model's own. @param options.where its name in errors. Default "the given one".
 * @throws FileFormatError for a template that cannot be parsed.
 */
export async function loadChatTemplate(
  place: DirectoryLike,
  { source, where = "the given one" }: { readonly source?: string | undefined; readonly where?: string } = {},
): Promise<ChatTemplate | undefined> {
  const directory = await directoryAt(place);
  const config = await readTokenizerConfig(directory);
  const sources: Sources | undefined =
    source === undefined ? await templateSources(directory, config["chat_template"]) : { where, plain: source };
  if (sources === undefined) return undefined;
  const { compileTemplate } = await import("./chat-jinja");
  const compile = (jinja: string, what: string) => {
    try {
      return compileTemplate(jinja);
    } catch (cause) {
      // The engine throws Errors; a catch clause cannot say so.
      const fact = `${what} of ${sources.where} cannot be parsed: ${oneLine((cause as Error).message)}`;
      throw new FileFormatError(fact, "correct it, or save the tokenizer again", { cause });
    }
  };
  const [plain, tools] = [sources.plain, sources.tools].map((jinja, i) =>
    jinja === undefined ? undefined : compile(jinja, i === 0 ? "the chat template" : "the template tool_use"),
  );
  const tokens: Record<string, string> = {};
  for (const role of SPECIAL_ROLES) {
    const content = contentOf(config[`${role}_token`]);
    if (content !== undefined) tokens[`${role}_token`] = content;
  }
  return new LoadedTemplate((plain ?? tools)!, tools, tokens, sources.where);
}

interface Sources {
  readonly where: string;
  readonly plain?: string | undefined;
  /** For chats with tools. */
  readonly tools?: string | undefined;
}

/** The Jinja templates that a directory has; undefined for none. */
export async function templateSources(directory: Directory, inConfig: unknown): Promise<Sources | undefined> {
  if ((await directory.size(CHAT_TEMPLATE_FILE)) !== undefined) {
    const where = `${CHAT_TEMPLATE_FILE} in ${directory.name}`;
    return { where, plain: decodeText(await directory.read(CHAT_TEMPLATE_FILE), where) };
  }
  const where = `${TOKENIZER_CONFIG_FILE} in ${directory.name}`;
  if (inConfig === undefined || inConfig === null) return undefined;
  if (typeof inConfig === "string") return { where, plain: inConfig };
  if (!v.is(NAMED, inConfig) || inConfig.length === 0) {
    throw new FileFormatError(`${where}: chat_template is neither a text nor a list of templates`, "correct it");
  }
  const named = (wanted: string) => inConfig.find(({ name }) => name === wanted)?.template;
  const [plain, tools] = [named("default"), named("tool_use")];
  if (plain === undefined && tools === undefined) {
    throw new FileFormatError(`${where}: chat_template has no template named default`, "name one of them so");
  }
  return { where, plain, tools };
}

/** A compiled template. */
export interface CompiledTemplate {
  /** Whether it encloses answers in `{% generation %}`. */
  readonly marksAnswers: boolean;
  /** Whether it reads contents that are lists of parts. */
  readonly readsParts: boolean;
  /** The text, with the spans [start, end) of marked answers in it. @throws Error where the template raises one. */
  render(variables: Readonly<Record<string, unknown>>): {
    readonly text: string;
    readonly answers: readonly AnswerSpan[];
  };
}

export type AnswerSpan = readonly [start: number, end: number];

interface WeighedSpan {
  readonly span: AnswerSpan;
  readonly weight: number;
}

class LoadedTemplate implements ChatTemplate {
  constructor(
    private readonly plain: CompiledTemplate,
    private readonly withTools: CompiledTemplate | undefined,
    private readonly specialTokens: Readonly<Record<string, string>>,
    private readonly where: string,
  ) {}

  render(messages: readonly ChatMessage[], options: RenderOptions = {}): string {
    return this.#render(messages, options).text;
  }

  turns(messages: readonly ChatMessage[], options: Omit<RenderOptions, "addGenerationPrompt"> = {}): Conversation {
    const { text, answers: marked } = this.#render(messages, options);
    const answers = this.#templateFor(options).marksAnswers
      ? this.#weighedAnswers(marked, messages)
      : this.#addedAnswers(text, messages, options);
    const turns: Turn[] = [];
    let last = 0;
    for (const {
      span: [start, end],
      weight,
    } of answers) {
      turns.push({ text: text.slice(last, start), isAnswer: false, isComplete: true });
      turns.push({
        text: text.slice(start, end),
        isAnswer: true,
        isComplete: true,
        ...(weight !== 1 && { weight }),
      });
      last = end;
    }
    turns.push({ text: text.slice(last), isAnswer: false, isComplete: true });
    return turns.filter((turn) => turn.text !== "");
  }

  /** Marked answers with their weights, without those of weight 0. */
  #weighedAnswers(answers: readonly AnswerSpan[], messages: readonly ChatMessage[]): readonly WeighedSpan[] {
    const weights = messages.filter(({ role }) => role === "assistant").map(({ weight = 1 }) => weight);
    const [first = 1] = weights;
    // Alike, they need not be told apart.
    if (first !== 0 && weights.every((weight) => weight === first)) {
      return answers.map((span) => ({ span, weight: first }));
    }
    if (weights.length === answers.length) {
      return answers.map((span, i) => ({ span, weight: weights[i]! })).filter(({ weight }) => weight !== 0);
    }
    throw this.#refusal(
      `it marks ${answers.length} answers of ${weights.length} messages, so that weights have no meaning`,
    );
  }

  /** What each answer adds to the text that it is written after. */
  #addedAnswers(text: string, messages: readonly ChatMessage[], options: RenderOptions): WeighedSpan[] {
    const answers: WeighedSpan[] = [];
    messages.forEach(({ role, weight = 1 }, i) => {
      if (role !== "assistant" || weight === 0) return;
      const before = this.render(messages.slice(0, i), { ...options, addGenerationPrompt: true });
      const after = i === messages.length - 1 ? text : this.render(messages.slice(0, i + 1), options);
      const isClear =
        text.startsWith(after) && after.startsWith(before) && before.length >= (answers.at(-1)?.span[1] ?? 0);
      if (!isClear)
        throw this.#refusal(
          `it writes message ${i + 1} in another way once the chat goes on, or than it begins an answer`,
        );
      answers.push({ span: [before.length, after.length], weight });
    });
    return answers;
  }

  #templateFor({ tools }: RenderOptions): CompiledTemplate {
    return tools === undefined ? this.plain : (this.withTools ?? this.plain);
  }

  #render(messages: readonly ChatMessage[], options: RenderOptions): ReturnType<CompiledTemplate["render"]> {
    const { tools = null, addGenerationPrompt = false, variables = {} } = options;
    const template = this.#templateFor(options);
    const given = messages.map((message) => {
      const { weight: _, ...rest } = message;
      return Array.isArray(rest.content) && !template.readsParts ? { ...rest, content: contentText(message) } : rest;
    });
    try {
      return template.render({
        ...this.specialTokens,
        messages: given,
        tools,
        documents: null,
        add_generation_prompt: addGenerationPrompt,
        ...variables,
      });
    } catch (cause) {
      // The engine throws Errors; a catch clause cannot say so.
      throw new DataError(
        `the chat template (${this.where}) refuses the messages: ${oneLine((cause as Error).message)}`,
        "give messages that the model was trained on, such as user and assistant in turn",
        { cause },
      );
    }
  }

  #refusal(reason: string): DataError {
    return new DataError(
      `the chat template (${this.where}) does not say what to learn: ${reason}`,
      'learn each answer in a row of its own (eachAnswer, or --each-answer), give earlier ones "weight": 0, or a template with {% generation %}',
    );
  }
}
