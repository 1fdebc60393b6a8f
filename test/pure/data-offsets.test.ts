import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { tokenSpans } from "../../src/data/offsets";
import { decodeSpans, squadFeatures } from "../../src/data/squad";
import { loadTokenizer } from "../../src/data/tokenizer";
import type { Tokenizer } from "../../src/data/tokenizer";
import { openDirectory } from "../../src/node/directory";

interface Case {
  readonly tokenizer: string;
  readonly text: string;
  readonly ids: number[];
  readonly spans: readonly [number, number][];
}

/** What transformers gives; made by test/interop/offsets.py. */
const { cases, pair } = JSON.parse(readFileSync("test/interop/offsets.json", "utf8")) as {
  readonly cases: readonly Case[];
  readonly pair: {
    readonly question: string;
    readonly maxLength: number;
    readonly overlap: number;
    readonly windows: readonly { readonly tokenizer: string; readonly context: string; readonly ids: number[][] }[];
  };
};

const load = async (name: string): Promise<Tokenizer> =>
  loadTokenizer(await openDirectory(`test/interop-data/tokenizers/${name}`));

describe("places of tokens", () => {
  it.each(cases.map((one) => [one.tokenizer, one.text, one] as const))("%s: %s", async (name, text, one) => {
    const { ids, spans } = (await load(name)).locate(text);
    expect(ids).toEqual(one.ids);
    // Python leaves a space before a word in, or out, as the tokenizer's file says.
    const bare = ([start, end]: readonly [number, number]): [number, number] => {
      const own = text.slice(start, end);
      return [start + own.length - own.trimStart().length, end - own.length + own.trimEnd().length];
    };
    // Python's offsets of white space alone are empty, or its first character; nothing reads them.
    const isBlank = ([start, end]: readonly [number, number]): boolean => text.slice(start, end).trim() === "";
    spans.forEach((span, i) => {
      const wanted = one.spans[i]!;
      if (!isBlank(wanted) || !isBlank(span)) expect(span, `token ${i + 1}`).toEqual(bare(wanted));
    });
  });

  it("are those of LLaMA's spelling, bytes included", () => {
    const tokens = ["\u2581the", "\u2581caf", "<0xC3>", "<0xA9>", "\u2581", "s"];
    expect(tokenSpans("the caf\u00e9 s", tokens, "metaspace")).toEqual([
      [0, 3],
      [4, 7],
      [7, 8],
      [7, 8],
      [8, 9],
      [9, 10],
    ]);
  });

  it("are refused where tokens and text do not agree", () => {
    expect(() => tokenSpans("the film", ["the", "\u0120book"], "bytes")).toThrow(/token "\u0120book" is not at 3/);
    expect(() => tokenSpans("the film", ["the", "book"], "wordpiece")).toThrow(/token "book" is not at 4/);
    expect(() => tokenSpans("the", ["the", "[UNK]", "x"], "wordpiece", "[UNK]")).toThrow(/is not at 3/);
  });
});

describe("windows of a context", () => {
  it.each(pair.windows.map((one) => [one.tokenizer, one] as const))(
    "%s, as transformers cuts them",
    async (name, one) => {
      const tokenizer = await load(name);
      const { question, maxLength, overlap } = pair;
      const special = tokenizer.encode("", "").ids.length;
      const room = maxLength - special - tokenizer.locate(question).ids.length;
      const example = { id: "1", question, context: one.context, answers: [] };
      const features = squadFeatures([example], tokenizer, { maxLength, stride: room - overlap });
      expect(features.map(({ sample }) => [...sample.ids])).toEqual(one.ids);
      expect(one.ids.length, "windows").toBeGreaterThan(1);
    },
  );

  it("lets an answer begin and end inside a word", async () => {
    const tokenizer = await load("gpt2");
    const context = "the film is unboring, never-ending";
    const answers = [{ text: "boring", start: context.indexOf("boring") }];
    const [feature] = squadFeatures([{ id: "1", question: "what", context, answers }], tokenizer);
    const [first, last] = feature?.sample.label as Int32Array;
    const [start, end] = [feature?.spans[first ?? 0]?.[0] ?? 0, feature?.spans[last ?? 0]?.[1] ?? 0];
    expect(context.slice(start, end)).toContain("boring");
    expect(end - start, "less than the whole word and comma").toBeLessThan("unboring,".length);
  });

  it("is not decoded from scores that are not finite", async () => {
    const tokenizer = await load("bert");
    const example = { id: "q7", question: "what", context: "the film", answers: [] };
    const features = squadFeatures([example], tokenizer);
    const length = features[0]?.spans.length ?? 0;
    const scores = { start: new Float32Array(length), end: new Float32Array(length).fill(Number.NaN) };
    expect(() => decodeSpans([example], features, [scores])).toThrow(/score of question q7 is not finite/);
  });
});
