import { describe, expect, it } from "vitest";
import type { Sample } from "safetape";
import { loadChatTemplate, loadTokenizer, memoryDirectory } from "safetape/data";
import { DataError } from "safetape/engine";
import { preferencePairs, PreferenceBatches, readPreferences, rewardScores } from "safetape/preference";
import type { Preference, ReferencedPair } from "safetape/preference";
import { splitBatch } from "../../src/data/split";
import { failure } from "../support/failure";
import { answerSample } from "../support/preferences";

const tokenizer = await loadTokenizer("test/interop-data/tokenizers/gpt2");
const JINJA = `{% for m in messages %}<{{ m.role }}>{{ m.content }}|
{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}`;
const template = await loadChatTemplate("test/interop-data/tokenizers/gpt2", { source: JINJA });

async function read(lines: readonly unknown[], withTemplate = false): Promise<Preference[]> {
  const directory = memoryDirectory("pairs");
  const text = lines.map((line) => (typeof line === "string" ? line : JSON.stringify(line))).join("\n");
  await directory.write("train.jsonl", new TextEncoder().encode(text));
  return readPreferences(directory, "train.jsonl", withTemplate ? { template } : {});
}

/** The prompt, and both answers, of the first line. */
async function texts(line: unknown, withTemplate = false): Promise<string[]> {
  const [{ chosen, rejected } = { chosen: [], rejected: [] }] = await read([line], withTemplate);
  const part = (turns: Preference["chosen"], isAnswer: boolean) =>
    turns
      .filter((turn) => turn.isAnswer === isAnswer)
      .map(({ text }) => text)
      .join("");
  expect(part(chosen, false)).toBe(part(rejected, false));
  return [part(chosen, false), part(chosen, true), part(rejected, true)];
}

const user = (content: string) => ({ role: "user", content });
const assistant = (content: string) => ({ role: "assistant", content });

describe("preferences", () => {
  it("are texts, with a prompt or with what both begin with", async () => {
    expect(await texts({ prompt: "2 + 2 is", chosen: " 4", rejected: " 5" })).toEqual(["2 + 2 is", " 4", " 5"]);
    expect(await texts({ chosen: "2 + 2 is 4", rejected: "2 + 2 is 5" })).toEqual(["2 + 2 is", " 4", " 5"]);
    // TRL's rule goes by characters.
    expect(await texts({ chosen: "say yes", rejected: "say yet" })).toEqual(["say ye", "s", "t"]);
    // Half of a character is no text.
    expect(await texts({ chosen: "a 😀", rejected: "a 😁" })).toEqual(["a ", "😀", "😁"]);
  });

  it("are messages, written by the template or in plain roles", async () => {
    const explicit = { prompt: [user("2 + 2?")], chosen: [assistant("4")], rejected: [assistant("5")] };
    const implicit = { chosen: [user("2 + 2?"), assistant("4")], rejected: [user("2 + 2?"), assistant("5")] };
    for (const line of [explicit, implicit, { prompt: "2 + 2?", ...implicit }]) {
      expect(await texts(line, true)).toEqual(["<user>2 + 2?|\n<assistant>", "4|\n", "5|\n"]);
      expect(await texts(line)).toEqual(["<|user|>\n2 + 2?\n<|assistant|>\n", "4\n", "5\n"]);
    }
    const longer = { ...explicit, chosen: [assistant("4"), user("sure?"), assistant("yes")] };
    expect((await texts(longer, true))[1]).toBe("4|\n<user>sure?|\n<assistant>yes|\n");
    expect((await texts(longer))[1]).toBe("4\n<|user|>\nsure?\n<|assistant|>\nyes\n");
  });

  const messages = { prompt: [user("a")], chosen: [assistant("b")], rejected: [assistant("c")] };
  it.each([
    ["not JSON", "{", /line 1: not JSON/],
    ["another layout", { prompt: "a", completion: "b" }, /line 1: it has no chosen answer[^]*"prompt", "chosen", "rej/],
    ["no rejected answer", { prompt: "a", chosen: "b" }, /line 1: it has no rejected answer/],
    ["numbers", { prompt: "a", chosen: 1, rejected: 2 }, /line 1: not a prompt, a chosen and a rejected answer/],
    ["an empty answer", { prompt: "a", chosen: " ", rejected: "b" }, /line 1: its chosen answer is empty/],
    [
      "equal answers",
      { prompt: "a", chosen: "b", rejected: "b" },
      /line 1: its chosen and its rejected answer are the s/,
    ],
    ["one that begins the other", { chosen: "a b c", rejected: "a b" }, /line 1: its rejected answer is empty/],
    [
      "no common beginning",
      { chosen: "a b", rejected: "c d" },
      /line 1: it has no prompt, and its answers do not begin/,
    ],
    ["a text beside messages", { ...messages, rejected: "c" }, /line 1: one of its answers is a text/],
    ["a prompt of messages", { ...messages, chosen: "b", rejected: "c" }, /line 1: its prompt is messages, and its/],
    ["no messages", { ...messages, chosen: [] }, /line 1: its chosen is empty/],
    [
      "an answer with a weight",
      { ...messages, chosen: [{ ...assistant("a"), weight: 0.5 }] },
      /line 1: a message of its chosen answer has the weight 0.5/,
    ],
    ["a message without a role", { ...messages, chosen: [{}] }, /line 1: message 1 has no role \(of chosen\)/],
    ["an empty message", { ...messages, rejected: [assistant("")] }, /line 1: its rejected answer is empty/],
    [
      "answers with the prompt again",
      { ...messages, chosen: [user("a"), assistant("b")] },
      /line 1: its chosen answer begins with a message of user[^]*leave out prompt/,
    ],
    [
      "another prompt than the messages'",
      { prompt: "z", chosen: [user("a"), assistant("b")], rejected: [user("a"), assistant("c")] },
      /line 1: its prompt is none of the messages that both answers begin with/,
    ],
    [
      "messages that differ from the first on",
      { chosen: [user("a"), assistant("b")], rejected: [user("x"), assistant("c")] },
      /line 1: it has no prompt/,
    ],
  ])("refuse %s", async (_, line, message) => {
    expect((await failure(read([line]), DataError)).message).toMatch(message);
  });

  it("refuse a prompt that the template writes in another way before an answer", async () => {
    const source = `{% if messages | length > 1 %}CHAT {% endif %}${JINJA}`;
    const changing = await loadChatTemplate("test/interop-data/tokenizers/gpt2", { source });
    const directory = memoryDirectory("pairs");
    await directory.write("train.jsonl", new TextEncoder().encode(`\n${JSON.stringify(messages)}`));
    const error = await failure(readPreferences(directory, "train.jsonl", { template: changing }), DataError);
    expect(error.message).toMatch(
      /train.jsonl in pairs, line 2: the chat template writes the prompt in another way once/,
    );
  });
});

describe("pairs of samples", () => {
  it("are labelled on the answers and their end alone", async () => {
    const preferences = await read([{ prompt: "the film is", chosen: " good", rejected: " never good" }]);
    const { pairs, truncated } = preferencePairs(preferences, tokenizer);
    expect(truncated).toBe(0);
    const answerOf = ({ label }: Sample): number[] =>
      typeof label === "number" ? [] : [...label].filter((id) => id !== -100);
    for (const sample of [pairs[0]!.chosen, pairs[0]!.rejected]) {
      const answer = answerOf(sample);
      const { ids } = sample;
      expect(answer.at(-1)).toBe(tokenizer.endIds[0]);
      expect([...ids.slice(-answer.length)]).toEqual(answer);
    }
    expect(tokenizer.decode(pairs[0]!.chosen.ids)).toBe("the film is good");
    expect(tokenizer.decode(answerOf(pairs[0]!.rejected))).toBe(" never good");
  });

  it("are refused, with the line, where rows lose an answer, or what differs", async () => {
    const line = { prompt: "the film is", chosen: " good", rejected: " never good" };
    const cut = (lines: readonly unknown[], maxLength: number) =>
      read(lines).then((preferences) =>
        failure(() => preferencePairs(preferences, tokenizer, { maxLength }), DataError),
      );
    const prompt = tokenizer.encode(line.prompt, undefined, { specialTokens: false }).ids.length;
    expect((await cut([line, line], prompt)).message).toMatch(
      new RegExp(`line 1: the chosen answer begins at token ${prompt + 1}, and rows have ${prompt}[^]*--max-length`),
    );
    const alike = { prompt: "the film", chosen: " is good", rejected: " is never" };
    const count = tokenizer.encode("the film is", undefined, { specialTokens: false }).ids.length;
    expect((await cut([line, alike], count)).message).toMatch(/line 1/);
    expect((await cut([alike], count)).message).toMatch(/line 1: chosen and rejected have the same first \d+ tokens/);
    const empty = await read([{ prompt: "", chosen: "", rejected: "x" }]).catch((error: unknown) => error);
    expect(empty).toBeInstanceOf(DataError);
    const tooLarge = await failure(
      read([line]).then((preferences) => preferencePairs(preferences, tokenizer, { vocabularySize: 1 })),
      DataError,
    );
    expect(tooLarge.message).toMatch(
      /line 1: the chosen answer has the token id \d+, and the model's vocabulary has 1/,
    );
  });

  const pairs: ReferencedPair[] = Array.from({ length: 5 }, (_, i) => ({
    chosen: answerSample([i + 2], [10 + i]),
    rejected: answerSample([i + 2], [20 + i, 30, 31]),
    reference: { chosen: -1 - i, rejected: -10 - i },
  }));

  it("stay together in batches, whose parts have even numbers of rows", () => {
    const batches = new PreferenceBatches(pairs, { size: 3, seed: 4, multiple: 1 });
    expect(batches.perEpoch).toBe(2);
    const [first, second] = [batches.next(), batches.next()];
    expect([first.size, first.rows, second.size, second.rows]).toEqual([6, 6, 6, 4]);
    const order = [...first.ids!, ...second.ids!];
    expect(new Set(order).size).toBe(10);
    for (let row = 0; row < 10; row += 2) expect(order[row + 1]).toBe(order[row]! + 1);
    expect([...first.reference!].filter((_, row) => row % 2 === 0)).toEqual(
      [...first.ids!].filter((id) => id % 2 === 0).map((id) => -1 - id / 2),
    );
    const parts = splitBatch(second, 4);
    expect(parts.map(({ batch }) => [batch.rows, [...batch.reference!]])).toEqual([
      [4, [...second.reference!].slice(0, 4)],
    ]);
    // An epoch continues at its position.
    const position = batches.save();
    const next = batches.next();
    batches.resume(position);
    expect(batches.next()).toEqual(next);
  });

  it("have metrics of their rewards, in which a tie is not won", () => {
    const scores = rewardScores();
    // Scores read nothing else of a batch.
    scores.see({ rows: 4 } as never, Float32Array.of(1, 0.5, 2, 2, 9, 9));
    expect(scores.metrics()).toEqual({
      "rewards/accuracies": 0.5,
      "rewards/margins": 0.25,
      "rewards/chosen": 1.5,
      "rewards/rejected": 1.25,
    });
  });
});
