import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { DataError, FileFormatError } from "../../src/base/errors";
import { plainTurns } from "../../src/data/chat";
import type { ChatMessage } from "../../src/data/chat";
import { loadChatTemplate } from "../../src/data/chat-template";
import type { ChatTemplate } from "../../src/data/chat-template";
import { chatEndIds, chatPrompt, conversationSamples, promptIds, readConversations } from "../../src/data/jsonl";
import { answerPairs, pairSamples } from "../../src/data/pairs";
import { loadTokenizer } from "../../src/data/tokenizer";
import type { Tokenizer } from "../../src/data/tokenizer";
import { memoryDirectory } from "../../src/io/directory";
import { jsonBytes } from "../../src/io/json";
import { openDirectory } from "../../src/node/directory";
import { failure } from "../support/failure";
import { readJson } from "../support/json";
import { sharedData, sharedFile, unless } from "../support/shared-data";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** Like ChatML: every message between two marks, on lines of blocks, whose white space Jinja removes. */
const CHATML = `{% for message in messages %}
  {% if message.role == "tool" %}
    {{- raise_exception("no tools, please") }}
  {% endif %}
<|{{ message.role }}|>{{ message.content }}{{ eos_token }}
{% endfor %}
{%- if add_generation_prompt %}<|assistant|>{% endif %}`;

/** Says which parts are answers. */
const MARKED = `{%- for message in messages %}
{{- message.role }}: {% if message.role == "assistant" -%}
{% generation %}{{ message.content }}{{ eos_token }}{% endgeneration %}
{%- else %}{{ message.content }}{% endif %};
{%- endfor %}`;

/** Leaves thoughts out of answers that are not the last message, as reasoning models' templates do. */
const FORGETFUL = `{% for message in messages -%}
[{{ message.content.split("|")[-1] if not loop.last else message.content }}]
{%- endfor %}{% if add_generation_prompt %}[{% endif %}`;

const TEMPLATES = { CHATML, MARKED, FORGETFUL };

async function template(name: keyof typeof TEMPLATES): Promise<ChatTemplate> {
  const config = { chat_template: TEMPLATES[name], eos_token: "</s>" };
  return (await loadChatTemplate(memoryDirectory("m", { "tokenizer_config.json": jsonBytes(config) })))!;
}

/** A tokenizer with begin and end tokens. */
const llama = async (): Promise<Tokenizer> => loadTokenizer(await openDirectory(`${DATA}/llama2-legacy`));
const DATA = "test/interop-data/tokenizers";

const user = (content: string): ChatMessage => ({ role: "user", content });
const assistant = (content: string, weight = 1): ChatMessage => ({ role: "assistant", content, weight });
const TALK = [user("a"), assistant("b"), user("c"), assistant("d")];

const answers = (turns: readonly { readonly text: string; readonly isAnswer: boolean }[]): string[] =>
  turns.flatMap(({ text, isAnswer }) => (isAnswer ? [text] : []));

it("a line that cannot be read is left out where its reader is told of it", async () => {
  const good = '{"prompt": "a", "completion": "b"}';
  const lines = [good, "{not JSON", '{"other": 1}', "", '{"messages": [{"role": "user", "content": "c"}]}', good];
  const directory = memoryDirectory("d", { "c.jsonl": bytes(lines.join("\n")) });
  const told: string[] = [];
  const onBadLine = (error: DataError, line: number): void => void told.push(`${line} ${error.fact}`);
  const conversations = await readConversations(directory, "c.jsonl", { onBadLine });
  expect(conversations.map(answers)).toEqual([["b"], ["b"]]);
  expect(told.map((text) => text.replace(/: .*/, ""))).toEqual(
    [2, 3, 5].map((line) => `${line} c.jsonl in d, line ${line}`),
  );
});

describe("chat templates", () => {
  it("write what transformers writes", async () => {
    const messages = [user("hi\n"), assistant("yes")];
    const chatml = await template("CHATML");
    expect(chatml.render(messages)).toBe("<|user|>hi\n</s>\n<|assistant|>yes</s>\n");
    expect(chatml.render(messages.slice(0, 1), { addGenerationPrompt: true })).toBe("<|user|>hi\n</s>\n<|assistant|>");
  });

  it("say what is learnt by their marks, or by what an answer adds", async () => {
    expect(answers((await template("CHATML")).turns(TALK))).toEqual(["b</s>\n", "d</s>\n"]);
    expect(answers((await template("MARKED")).turns(TALK))).toEqual(["b</s>", "d</s>"]);
    for (const name of ["CHATML", "MARKED"] as const) {
      const loaded = await template(name);
      const turns = loaded.turns(TALK);
      expect(turns.map(({ text }) => text).join("")).toBe(loaded.render(TALK));
      expect(answers(loaded.turns([user("a"), assistant("b", 0), user("c"), assistant("d")]))).toHaveLength(1);
    }
  });

  it("give answers the weights of their messages, down to their tokens", async () => {
    const messages = [user("a"), assistant("b", 0.25), user("c"), assistant("d"), user("e"), assistant("f", 3)];
    const tokenizer = await llama();
    for (const loaded of [await template("CHATML"), await template("MARKED"), undefined]) {
      const turns = loaded ? loaded.turns(messages) : plainTurns(messages);
      const weights = turns.flatMap(({ isAnswer, weight = 1 }) => (isAnswer ? [weight] : []));
      expect(weights).toEqual([0.25, 1, 3]);
      const [sample] = conversationSamples([turns], tokenizer).samples;
      // Samples of texts have a label for each token.
      const [label, ofTokens] = [sample!.label as Int32Array, sample!.weights!];
      const learnt = [...ofTokens].filter((_, at) => label[at]! >= 0);
      expect([...new Set(learnt)], "in the order of the text").toEqual([0.25, 1, 3]);
      expect([...ofTokens].every((weight, at) => label[at]! >= 0 || weight === 1)).toBe(true);
      expect(conversationSamples([plainTurns(TALK)], tokenizer).samples[0]).not.toHaveProperty("weights");
    }
    const pairs = answerPairs([plainTurns(messages)]);
    expect((await failure(() => pairSamples(pairs, tokenizer), DataError)).fact).toMatch(/has the weight 0.25/);
  });

  it("are refused where they do not say what is learnt, which weights can mend", async () => {
    const forgetful = await template("FORGETFUL");
    const thinking = [user("a"), assistant("thought|b"), user("c"), assistant("thought|d")];
    expect((await failure(() => forgetful.turns(thinking), DataError)).message).toMatch(
      /does not say what to learn.*message 2/,
    );
    const weighed = thinking.map((message, i) => (i === 1 ? { ...message, weight: 0 as const } : message));
    expect(answers(forgetful.turns(weighed))).toEqual(["thought|d]"]);
    const directory = memoryDirectory("d", { "c.jsonl": bytes(JSON.stringify({ messages: thinking })) });
    const rows = await readConversations(directory, "c.jsonl", { template: forgetful, eachAnswer: true });
    expect(rows.map(answers)).toEqual([["thought|b]"], ["thought|d]"]]);
    // Each answer follows the very text that a model is asked with.
    rows.forEach(([asking], i) => {
      const before = thinking.slice(0, 2 * i + 1);
      expect(asking!.text).toBe(forgetful.render(before, { addGenerationPrompt: true }));
    });
  });

  it("refuse messages with their own words, and the reader adds the line", async () => {
    const chatml = await template("CHATML");
    const messages = [user("a"), { role: "tool", content: "b" }, assistant("c")];
    expect((await failure(() => chatml.render(messages), DataError)).fact).toMatch(
      /refuses the messages: no tools, please$/,
    );
    const lines = [{ messages: TALK }, { messages }].map((line) => JSON.stringify(line)).join("\n");
    const reading = readConversations(memoryDirectory("d", { "c.jsonl": bytes(lines) }), "c.jsonl", {
      template: chatml,
    });
    expect((await failure(reading, DataError)).fact).toMatch(
      /^c\.jsonl in d, line 2: the chat template .*: no tools, please$/,
    );
  });

  it.each([
    ["loops", "{% for a in range(2000) %}{% for b in range(2000) %}{% endfor %}{% endfor %}"],
    ["macros", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"],
    ["ranges", "{% for a in range(1000000000000) %}{% endfor %}"],
  ])("end where their %s would not", async (_, source) => {
    const endless = (await loadChatTemplate(memoryDirectory("m", {}), { source }))!;
    expect((await failure(() => endless.render(TALK), DataError)).fact).toMatch(
      // A stack that is full is a RangeError of the engine, or a name that it does not find.
      /refuses the messages: (?:it takes more than 500000 rounds of loops and macros|Maximum call stack|Cannot call)/,
    );
  });

  it("have Python's ranges", async () => {
    const source =
      "{% for a in range(3) %}{{ a }}{% endfor %};{% for a in range(5, 0, -2) %}{{ a }}{% endfor %};{{ range(2, 2) | length }}";
    const counting = (await loadChatTemplate(memoryDirectory("m", {}), { source }))!;
    expect(counting.render(TALK)).toBe("012;531;0");
  });

  it("are found as transformers finds them", async () => {
    const load = async (config: object, file?: string) => {
      const files = { "tokenizer_config.json": jsonBytes(config), ...(file && { "chat_template.jinja": bytes(file) }) };
      const loaded = await loadChatTemplate(memoryDirectory("m", files));
      return loaded && [loaded.render(TALK), loaded.render(TALK, { tools: [{}] })];
    };
    expect(await load({})).toBeUndefined();
    expect(await load({ chat_template: "a" }, "b\r\nb\n")).toEqual(["b\nb", "b\nb"]);
    const named = { chat_template: ["default", "tool_use"].map((name) => ({ name, template: name })) };
    expect(await load(named)).toEqual(["default", "tool_use"]);
    expect((await failure(load({ chat_template: [] }), FileFormatError)).message).toMatch(/neither a text nor a list/);
    expect((await failure(load({ chat_template: "{% if %}" }), FileFormatError)).message).toMatch(/cannot be parsed/);
    const other = await loadChatTemplate(memoryDirectory("m", {}), { source: "{{ messages[0].content }}" });
    expect(other?.render(TALK)).toBe("a");
  });

  it("get contents of parts as they are if they read them, or else as one text", async () => {
    const messages = [
      {
        role: "user",
        content: [
          { type: "text", text: "a" },
          { type: "text", text: "b" },
        ],
      },
    ] as const;
    const render = async (source: string) =>
      (await loadChatTemplate(memoryDirectory("m", {}), { source }))?.render(messages);
    expect(await render("{{ messages[0].content }}")).toBe("ab");
    const reading =
      "{% for m in messages %}{% if m.content is string %}x{% else %}{{ m.content|length }}{% endif %}{% endfor %}";
    expect(await render(reading)).toBe("2");
  });

  it("are the same text in training and in generation", async () => {
    const [tokenizer, chatml] = [await llama(), await template("CHATML")];
    const content = bytes(JSON.stringify({ messages: [user("hello"), assistant("film")] }));
    for (const loaded of [chatml, undefined]) {
      const options = { template: loaded };
      const conversations = await readConversations(memoryDirectory("d", { c: content }), "c", options);
      const [sample] = conversationSamples(conversations, tokenizer).samples;
      const prompt = chatPrompt([user("hello")], tokenizer, options);
      expect([...sample!.ids.slice(0, prompt.length)]).toEqual([...prompt]);
      const label = [...(sample!.label as Int32Array)]; // the labels of tokens
      expect(label.slice(0, prompt.length).every((id) => id === -100)).toBe(true);
      expect(tokenizer.decode(label.slice(prompt.length), { keepSpecial: true })).toMatch(/film.*<\/s>/s);
    }
  });
});

describe("lines of messages", () => {
  const read = async (line: object) => {
    const [turns] = await readConversations(memoryDirectory("d", { c: jsonLine(line) }), "c");
    const [sample] = conversationSamples([turns!], await llama()).samples;
    const label = sample!.label as Int32Array; // the labels of tokens
    return (await llama()).decode(label.filter((id) => id >= 0)).trim();
  };
  const jsonLine = (line: object): Uint8Array => bytes(JSON.stringify(line));

  it("may have weights, and roles and contents as OpenAI's", async () => {
    expect(await read({ messages: [user("a"), assistant("world", 0), user("b"), assistant("film")] })).toBe("film");
    expect(
      await read({
        messages: [
          { ...user("a"), weight: null },
          { ...assistant("film"), weight: null },
        ],
      }),
    ).toBe("film");
    for (const role of ["system", "developer", "tool"]) {
      expect(await read({ messages: [{ role, content: "x" }, assistant("film")] })).toBe("film");
    }
    const parts = [{ role: "user", content: [{ type: "text", text: "x" }] }, assistant("film")];
    expect(await read({ messages: parts })).toBe("film");
    expect(await read({ instruction: "a", input: null, output: "film" })).toBe("film");
  });

  it.each<[string, object, RegExp]>([
    [
      "a role that is unknown",
      { messages: [{ role: "wizard", content: "a" }] },
      /line 1: message 1 \(wizard\) has a role/,
    ],
    ["no role", { messages: [user("a"), { content: "a" }] }, /message 2 has no role/],
    ["no content", { messages: [user("a"), { role: "assistant" }] }, /message 2 \(assistant\) has no content/],
    [
      "a number as content",
      { messages: [{ role: "user", content: 3 }] },
      /message 1 \(user\) has a content that is number/,
    ],
    ["an image", { messages: [{ role: "user", content: [{ type: "image_url" }] }] }, /part of the type "image_url"/],
    [
      "calls of tools",
      { messages: [{ role: "assistant", content: null, tool_calls: [{}] }] },
      /tool_calls, which only/,
    ],
    ["tools", { messages: TALK, tools: [{}] }, /tools, which only a chat template/],
    [
      "a negative weight",
      { messages: [{ ...assistant("a"), weight: -1 }] },
      /message 1 \(assistant\) has the weight -1/,
    ],
    [
      "a tiny weight",
      { messages: [{ ...assistant("a"), weight: 1e-9 }] },
      /message 1 \(assistant\) has the weight 1e-9/,
    ],
    [
      "a huge weight",
      { messages: [{ ...assistant("a"), weight: 1e9 }] },
      /message 1 \(assistant\) has the weight 1000000000/,
    ],
    [
      "a weight in quotes",
      { messages: [{ ...assistant("a"), weight: "1" }] },
      /message 1 \(assistant\) has the weight "1"/,
    ],
    ["a user's weight", { messages: [{ ...user("a"), weight: 1 }] }, /message 1 \(user\) has the weight 1/],
    ["no messages", { messages: [] }, /messages is not a list with at least one/],
    ["no answer that is learnt", { messages: [user("a"), assistant("b", 0)] }, /no answer to learn from/],
  ])("are refused for %s", async (_, line, fact) => {
    expect((await failure(read(line), DataError)).fact).toMatch(fact);
  });
});

describe("begin and end tokens", () => {
  const file = async (changes: Record<string, object>) =>
    loadTokenizer(
      memoryDirectory("m", {
        "tokenizer.json": jsonBytes(readJson(`${DATA}/llama2-legacy/tokenizer.json`)),
        ...Object.fromEntries(Object.entries(changes).map(([name, value]) => [`${name}.json`, jsonBytes(value)])),
      }),
    );
  const own = { tokenizer_config: { eos_token: "</s>" } };

  it.each<[string, Record<string, object>, number[]]>([
    ["the tokenizer's alone", own, [2]],
    ["config.json's", { ...own, config: { eos_token_id: 7 } }, [7]],
    ["config.json's where the tokenizer has none", { config: { eos_token_id: 7 } }, [7]],
    [
      "generation_config.json's before config.json's",
      { config: { eos_token_id: 7 }, generation_config: { eos_token_id: [8, 9] } },
      [8, 9],
    ],
    [
      "config.json's where generation_config.json has null",
      { config: { eos_token_id: 7 }, generation_config: { eos_token_id: null } },
      [7],
    ],
    ["the tokenizer's first where several end", { ...own, generation_config: { eos_token_id: [8, 2] } }, [2, 8]],
    ["special_tokens_map.json's", { special_tokens_map: { eos_token: { content: "</s>" } } }, [2]],
    ["none", {}, []],
  ])("are %s", async (_, files, ends) => {
    expect((await file(files)).endIds).toEqual(ends);
  });

  it("are those after a template's answer, too", async () => {
    const source = "{% for m in messages %}{{ m.content }} <turn>\n{% endfor %}";
    const template = await loadChatTemplate(memoryDirectory("m", {}), { source });
    const added = { 595: { content: "<turn>", special: true } };
    const tokenizer = await file({ tokenizer_config: { eos_token: "</s>", added_tokens_decoder: added } });
    expect(chatEndIds(tokenizer, template)).toEqual([2, 595]);
    expect(chatEndIds(tokenizer)).toEqual([2]);
    expect(chatEndIds(await file(own), template), "a template whose answers end in no token").toEqual([2]);
  });

  it("are named with the line if the model's vocabulary lacks them", async () => {
    const lines = bytes(`\n${JSON.stringify({ prompt: "a", completion: "b" })}\n`);
    const conversations = await readConversations(memoryDirectory("d", { c: lines }), "c");
    const tokenizer = await file({ generation_config: { eos_token_id: 2 } });
    const { samples } = conversationSamples(conversations, tokenizer, { vocabularySize: 1000 });
    const vocabularySize = Math.max(...samples[0]!.ids);
    const error = await failure(() => conversationSamples(conversations, tokenizer, { vocabularySize }), DataError);
    expect(error.fact).toMatch(new RegExp(`^c in d, line 2: the token ".*" has the id ${vocabularySize}, but`));
    const made = conversations.map((turns) => [...turns]);
    expect(() => conversationSamples(made, tokenizer, { vocabularySize })).toThrow(/^conversation 1: the token/);
  });

  it("begin samples as they begin prompts", async () => {
    const tokenizer = await llama();
    expect(tokenizer.beginIds).toEqual([...tokenizer.encode("").ids]);
    const conversation = [
      { text: "hello", isAnswer: false },
      { text: " film", isAnswer: true },
    ];
    const [sample] = conversationSamples([conversation], tokenizer).samples;
    const prompt = promptIds("hello", tokenizer);
    expect([...prompt]).toEqual([...tokenizer.encode("hello").ids]);
    expect([...sample!.ids.slice(0, prompt.length)]).toEqual([...prompt]);
  });
});

interface Render {
  readonly template: string;
  readonly special: Readonly<Record<string, string>>;
  readonly name: string;
  readonly messages: readonly ChatMessage[];
  readonly add_generation_prompt: boolean;
  readonly kwargs?: Readonly<Record<string, unknown>>;
  readonly tools?: readonly unknown[];
  readonly text?: string;
  readonly error?: string;
}

const templates = sharedData("chat_templates");

it.skipIf(templates === undefined)(
  `published templates write the 258 texts of transformers${unless(templates)}`,
  async () => {
    const { renders } = readJson<{ renders: Render[] }>(join(templates!, "expected.json"));
    for (const { template: name, special, messages, tools, kwargs: variables, ...rest } of renders) {
      const files = {
        "chat_template.jinja": sharedFile(templates!, name),
        "tokenizer_config.json": jsonBytes(special),
      };
      const loaded = await loadChatTemplate(memoryDirectory(name, files));
      const options = { tools, variables, addGenerationPrompt: rest.add_generation_prompt };
      const render = (): string => loaded!.render(messages, options);
      if (rest.error === undefined) expect(render(), `${name} ${rest.name}`).toBe(rest.text);
      else expect(render, `${name} ${rest.name}`).toThrow(rest.error.replace("TemplateError: ", ""));
    }
    expect(renders).toHaveLength(258);
  },
);
