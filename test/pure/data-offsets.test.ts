import { describe, expect, it } from "vitest";
import { decodeSpans, squadFeatures } from "../../src/data/squad";
import { loadTokenizer } from "../../src/data/tokenizer";
import type { Tokenizer } from "../../src/data/tokenizer";
import { openDirectory } from "../../src/node/directory";
import { readJson } from "../support/json";

interface Case {
  readonly tokenizer: string;
  readonly text: string;
  readonly ids: number[];
  readonly spans: readonly [number, number][];
}

/** Token positions in transformers; test/interop/offsets.py writes the file. */
const { cases, pair } = readJson<{
  readonly cases: readonly Case[];
  readonly pair: {
    readonly question: string;
    readonly maxLength: number;
    readonly overlap: number;
    readonly windows: readonly { readonly tokenizer: string; readonly context: string; readonly ids: number[][] }[];
  };
}>("test/interop/offsets.json");

const load = async (name: string): Promise<Tokenizer> =>
  loadTokenizer(await openDirectory(`test/interop-data/tokenizers/${name}`));

describe("positions of tokens in a text", () => {
  it.each(cases)(
    "are those of transformers, $tokenizer: $text",
    async ({ tokenizer, text, ids: expectedIds, spans: expected }) => {
      const { ids, spans } = (await load(tokenizer)).locate(text);
      expect(ids).toEqual(expectedIds);
      expect((await load(tokenizer)).encode(text, undefined, { specialTokens: false }).spans).toEqual(expected);
      // Python counts the space before a word in or not, depending on the tokenizer.
      const trimmed = ([start, end]: readonly [number, number]): [number, number] => {
        const word = text.slice(start, end);
        return [start + word.length - word.trimStart().length, end - word.length + word.trimEnd().length];
      };
      // The offsets of white space alone are empty in Python, or its first character. Nothing reads them.
      const isBlank = ([start, end]: readonly [number, number]): boolean => text.slice(start, end).trim() === "";
      spans.forEach((actual, i) => {
        const span = expected[i]!;
        if (!isBlank(span) || !isBlank(actual)) expect(actual, `token ${i + 1}`).toEqual(trimmed(span));
      });
    },
  );
});

describe("windows of a context", () => {
  it.each(pair.windows)("are those of transformers: $tokenizer", async ({ tokenizer: name, context, ids }) => {
    const tokenizer = await load(name);
    const { question, maxLength, overlap } = pair;
    const special = tokenizer.encode("", "").ids.length;
    const room = maxLength - special - tokenizer.locate(question).ids.length;
    const example = { id: "1", question, context, answers: [] };
    const features = squadFeatures([example], tokenizer, { maxLength, stride: room - overlap });
    expect(features.map(({ sample }) => [...sample.ids])).toEqual(ids);
    expect(ids.length, "windows").toBeGreaterThan(1);
  });

  it("may have answers that begin and end inside of words", async () => {
    const tokenizer = await load("gpt2");
    const context = "the film is unboring, never-ending";
    const answers = [{ text: "boring", start: context.indexOf("boring") }];
    const [feature] = squadFeatures([{ id: "1", question: "what", context, answers }], tokenizer);
    const { sample, spans } = feature!;
    const [first, last] = sample.label as Int32Array; // the labels of answers
    const [start, end] = [spans[first!]![0], spans[last!]![1]];
    expect(context.slice(start, end)).toContain("boring");
    expect(end - start, "length of the answer").toBeLessThan("unboring,".length);
  });

  it("give no answer from scores that are not finite", async () => {
    const tokenizer = await load("bert");
    const example = { id: "q7", question: "what", context: "the film", answers: [] };
    const features = squadFeatures([example], tokenizer);
    const length = features[0]?.spans.length ?? 0;
    const scores = { start: new Float32Array(length), end: new Float32Array(length).fill(Number.NaN) };
    expect(() => decodeSpans([example], features, [scores])).toThrow(/score of question q7 is not finite/);
  });
});

describe("labels of answers", () => {
  const context = "The quick brown fox jumps over the lazy dog.";
  it.each([
    ["bert", context, "fox", 16, "fox"],
    ["white space at its start", context, " fox", 15, "n fox"],
    ["white space at its end", context, "fox ", 16, "fox jumps"],
    ["a combining mark at its end", "the cafe\u0301 is open", "cafe\u0301", 4, "cafe\u0301 is"],
    ["a combining mark at the end of the context", "the cafe\u0301", "cafe\u0301", 4, "cafe"],
  ])("cover them, as transformers' do: %s", async (_, text, answer, start, covered) => {
    const tokenizer = await load("bert");
    const example = { id: "1", question: "who", context: text, answers: [{ text: answer, start }] };
    const [feature] = squadFeatures([example], tokenizer);
    const { sample, spans } = feature!;
    const [first, last] = sample.label as Int32Array; // the labels of answers
    expect(text.slice(spans[first!]![0], spans[last!]![1])).toBe(covered);
  });

  it("cover them where the context begins with a space that LLaMA's tokens spell", async () => {
    const tokenizer = await load("llama2-legacy");
    const example = { id: "1", question: "who", context: ` ${context}`, answers: [{ text: "fox", start: 17 }] };
    const [feature] = squadFeatures([example], tokenizer);
    const { sample, spans } = feature!;
    const [first, last] = sample.label as Int32Array; // the labels of answers
    expect(` ${context}`.slice(spans[first!]![0], spans[last!]![1])).toBe("n fox jumps ov");
  });

  it("come after the whole question, white space before it apart", async () => {
    const tokenizer = await load("gpt2");
    const [plain, spaced] = ["who jumps", `${" ".repeat(90)}who jumps`].map(
      (question) => squadFeatures([{ id: "1", question, context, answers: [] }], tokenizer)[0]!.sample.ids,
    );
    expect(spaced).toEqual(plain);
  });
});
