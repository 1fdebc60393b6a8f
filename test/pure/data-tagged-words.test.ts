import { describe, expect, it } from "vitest";
import { entitiesOf, entityScores } from "../../src/data/metrics-entities";
import { IGNORED_LABEL } from "../../src/data/sample";
import { readTagged, readTagNames, taggedSamples, tagNames } from "../../src/data/tagged-words";
import type { TaggedFile, TaggedOptions } from "../../src/data/tagged-words";
import { loadTokenizer } from "../../src/data/tokenizer";
import type { Tokenizer } from "../../src/data/tokenizer";
import { memoryDirectory } from "../../src/io/directory";
import { openDirectory } from "../../src/node/directory";
import { failure } from "../support/failure";
import { readJson } from "../support/json";

const CONLL = `-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
# SYM O O

-DOCSTART- -X- -X- O

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER
`;

const read = (content: string, file = "train.txt", options?: TaggedOptions): Promise<TaggedFile> =>
  readTagged(memoryDirectory("data", { [file]: new TextEncoder().encode(content) }), file, options);

const tokenizerOf = async (name: string): Promise<Tokenizer> =>
  loadTokenizer(await openDirectory(`test/interop-data/tokenizers/${name}`));

describe("files of words with tags", () => {
  it("in columns have sentences between blank lines and the starts of documents, and the tag last", async () => {
    const { sentences } = await read(CONLL);
    expect(sentences).toEqual([
      { words: ["EU", "rejects", "#"], tags: ["B-ORG", "O", "O"], line: 3 },
      { words: ["Peter", "Blackburn"], tags: ["B-PER", "I-PER"], line: 9 },
    ]);
    expect(tagNames(sentences)).toEqual(["B-ORG", "B-PER", "I-PER", "O"]);
  });

  it("may have the tag in another column, by number or by the name in CoNLL-U Plus's first line", async () => {
    const byNumber = await read(CONLL, "train.txt", { tagColumn: "3" });
    expect(byNumber.sentences[0]!.tags).toEqual(["B-NP", "B-VP", "O"]);
    const plus = "# global.columns = ID NER FORM\n# text = new york\n1\tB-LOC\tnew york\n2\tO\tis\n\n# x\n1\tO\t#\n";
    const byName = await read(plus, "train.conll", { tagColumn: "NER" });
    expect(byName.sentences.map(({ words, tags }) => [words, tags])).toEqual([
      [
        ["new york", "is"],
        ["B-LOC", "O"],
      ],
      [["#"], ["O"]],
    ]);
  });

  it("keep IOB1 and BIOES as they are, and may be JSON lines with names or numbers", async () => {
    const { sentences } = await read("a I-PER\nb S-LOC\nc E-LOC\r\n");
    expect(sentences[0]!.tags).toEqual(["I-PER", "S-LOC", "E-LOC"]);
    const lines =
      '{"tokens": ["a"], "ner_tags": ["B-X"], "tags": ["O"]}\n\n{"id": 1, "tokens": ["b", "c"], "tags": [1, 0]}\n';
    const json = await read(lines, "train.jsonl");
    expect(json.sentences.map(({ tags, line }) => [tags, line])).toEqual([
      [["B-X"], 1],
      [[1, 0], 3],
    ]);
    expect(tagNames(json.sentences), "names of numbers").toBeUndefined();
    const byKey = await read(lines, "train.json", { tagColumn: "tags" });
    expect(byKey.sentences.map(({ tags }) => tags)).toEqual([["O"], [1, 0]]);
  });

  it.each<[string, string, string, RegExp]>([
    [
      "a line without its tag",
      "train.txt",
      "EU NNP B-ORG\n\nrejects VBZ\n",
      /line 3: 2 columns; the lines before have 3/,
    ],
    ["a word alone", "train.txt", "EU\n", /line 1: 1 column; a word and its tag are at least 2/],
    ["a tag of words", "train.txt", "EU O\nrejects VBZ\n", /line 2: "VBZ" is not a tag of an entity/],
    ["an empty tag", "train.txt", "a O\nEU\t\n", /line 2: "" is not a tag/],
    ["no sentence", "train.txt", "-DOCSTART- O\n", /has no sentences/],
    [
      "tokens without tags",
      "train.jsonl",
      '{"tokens": ["a"]}\n',
      /line 1: no list of tokens with a list of ner_tags or tags/,
    ],
    ["a list for a line", "train.jsonl", "[]\n", /line 1: no list of tokens/],
    ["other lengths", "train.jsonl", '{"tokens": ["a"], "tags": [0, 1]}\n', /line 1: 1 tokens and 2 tags/],
    ["no tokens", "train.jsonl", '{"tokens": [], "tags": []}\n', /line 1: 0 tokens/],
    ["a broken line", "train.jsonl", '{"tokens"\n', /line 1: not JSON/],
  ])("with %s are refused", async (_, file, content, message) => {
    expect((await failure(read(content, file))).fact).toMatch(message);
  });

  it("without the column that is asked for are refused", async () => {
    const error = await failure(read(CONLL, "train.txt", { tagColumn: "5" }));
    expect(error.message).toMatch(/has no column 5\nit has 4 columns without names/);
    expect((await failure(read(CONLL, "train.txt", { tagColumn: "ner" }))).fact).toMatch(/no column ner/);
  });

  it("have lists of names, each once", async () => {
    const list = (content: string) =>
      readTagNames(memoryDirectory("data", { "labels.txt": new TextEncoder().encode(content) }), "labels.txt");
    expect(await list("O\nB-PER\n")).toEqual(["O", "B-PER"]);
    expect((await failure(list("O\nO\n"))).fact).toMatch(/line 2: the tag O for the second time/);
    expect((await failure(list("O\nperson\n"))).fact).toMatch(/line 2: "person" is not a tag/);
  });
});

describe("samples of words with tags", () => {
  const WORDS = ["the", "film", "isn't", "unforgettable"];
  const TAGS = ["O", "B-X", "I-X", "O"];
  const labelNames = ["B-X", "I-X", "O"];
  const file = (words = WORDS, tags: readonly (string | number)[] = TAGS): TaggedFile => {
    return { where: "f", sentences: [{ words, tags, line: 7 }] };
  };

  it.each(["bert", "gpt2", "roberta"])(
    "of %s are the text's tokens, with a label on each word's first",
    async (name) => {
      const tokenizer = await tokenizerOf(name);
      const { samples, counts } = taggedSamples(file(), tokenizer, { labelNames });
      // Words that single spaces divide are cut as the whole text is. In byte-level BPE a space precedes the first one, too.
      const text = (name === "bert" ? "" : " ") + WORDS.join(" ");
      expect(samples[0]!.ids).toEqual(tokenizer.encode(text).ids);
      const starts = WORDS.map((_, i) => {
        const before = WORDS.slice(0, i).flatMap((word) => tokenizer.wordIds(word));
        return before.length + (name === "gpt2" ? 0 : 1);
      });
      const expected = samples[0]!.ids.map((_, at) => [2, 0, 1, 2][starts.indexOf(at)] ?? IGNORED_LABEL);
      expect([samples[0]!.label, counts]).toEqual([expected, [4]]);
    },
  );

  it("take numbers as positions in the names", async () => {
    const tokenizer = await tokenizerOf("bert");
    const byNumber = taggedSamples(file(WORDS, [2, 0, 1, 2]), tokenizer, { labelNames });
    expect(byNumber).toEqual(taggedSamples(file(), tokenizer, { labelNames }));
  });

  it("lose what is too long, or are divided between words, each of which has one label", async () => {
    const tokenizer = await tokenizerOf("bert");
    const words = Array.from({ length: 5 }, () => WORDS).flat();
    const long = file(words, Array.from({ length: 5 }, () => TAGS).flat());
    const labelled = (label: number | Int32Array): number[] =>
      typeof label === "number" ? [] : [...label].filter((l) => l !== IGNORED_LABEL);
    const all = labelled(taggedSamples(long, tokenizer, { labelNames }).samples[0]!.label);
    expect(all).toHaveLength(words.length);
    for (const maxLength of [3, 4, 7, 16, 1000, Infinity]) {
      const cut = taggedSamples(long, tokenizer, { labelNames, maxLength });
      expect([cut.samples.length, cut.truncated]).toEqual([1, maxLength < 1000 ? 1 : 0]);
      const whole = tokenizer.encode(words.join(" "), undefined, { maxLength });
      expect(cut.samples[0]!.ids, `cut to ${maxLength}`).toEqual(whole.ids);
      expect(labelled(cut.samples[0]!.label)).toEqual(all.slice(0, cut.counts[0]));
      const divided = taggedSamples(long, tokenizer, { labelNames, maxLength, tooLong: "window" });
      expect(
        divided.samples.flatMap(({ label }) => labelled(label)),
        `windows of ${maxLength}`,
      ).toEqual(all);
      expect([divided.counts, divided.truncated]).toEqual([[words.length], 0]);
      expect(divided.samples.every(({ ids }) => ids.length <= maxLength)).toBe(true);
    }
    const [, second] = taggedSamples(long, tokenizer, { labelNames, maxLength: 30, tooLong: "window" }).samples;
    // The first token after [CLS] is context.
    expect(second!.label).toMatchObject({ 1: IGNORED_LABEL });
  });

  it("of an unknown tag, of no tokens and without room are refused", async () => {
    const tokenizer = await tokenizerOf("bert");
    const samples =
      (data: TaggedFile, maxLength = 9) =>
      () =>
        taggedSamples(data, tokenizer, { labelNames, maxLength });
    expect(samples(file(["a"], ["B-Y"]))).toThrow(
      /f, line 7: the sentence has the tag B-Y, which the model does not have/,
    );
    expect(samples(file(["a"], [3]))).toThrow(/has the tag 3/);
    expect(samples(file(["\u0001"], ["O"]))).toThrow(/f, line 7: the words of the sentence have no tokens/);
    expect(samples(file(), 2)).toThrow(/a row of 2 tokens has no room/);
    // A word without tokens among others has no label, as in transformers.
    expect(taggedSamples(file(["a", "\u0001"], ["O", "O"]), tokenizer, { labelNames }).counts).toEqual([1]);
  });
});

describe("entities", () => {
  interface Case {
    readonly labels: readonly string[];
    readonly predictions: readonly string[];
    readonly scores: Readonly<Record<"precision" | "recall" | "f1" | "accuracy", number>>;
    readonly types: Readonly<Record<string, readonly number[]>>;
  }
  const { cases } = readJson<{ readonly cases: readonly Case[] }>("test/pure/seqeval.json");
  const tags = (sentences: readonly string[]): string[][] => sentences.map((sentence) => sentence.split(" "));

  it.each(cases)(
    "of $labels against $predictions are scored by seqeval's rules",
    ({ labels, predictions, scores, types }) => {
      const { types: ofTypes, ...actual } = entityScores(tags(predictions), tags(labels));
      for (const name of ["precision", "recall", "f1", "accuracy"] as const) {
        expect(actual[name], name).toBeCloseTo(scores[name], 11);
      }
      expect([...ofTypes.keys()]).toEqual(Object.keys(types));
      for (const [type, { precision, recall, f1, count }] of ofTypes) {
        for (const [i, value] of [precision, recall, f1, count].entries()) {
          expect(value, `${type}, score ${i}`).toBeCloseTo(types[type]![i]!, 11);
        }
      }
    },
  );

  it("begin and end wherever places or types say so", () => {
    const spans = (text: string): string[] =>
      entitiesOf(text.split(" ")).map(({ type, start, end }) => `${type} ${start}-${end}`);
    expect(spans("I-PER I-PER B-PER O E-LOC I-LOC")).toEqual(["PER 0-2", "PER 2-3", "LOC 4-5", "LOC 5-6"]);
    expect(spans("B-A-B I-A-B I-A B")).toEqual(["A-B 0-2", "A 2-3", "_ 3-4"]);
  });

  it("score 0 where there are none, and nothing without words", () => {
    expect(entityScores([["O"]], [["O"]])).toMatchObject({ precision: 0, recall: 0, f1: 0, accuracy: 1 });
    expect(() => entityScores([], [])).toThrow(/not of the same words/);
    expect(() => entityScores([["O"]], [["O", "O"]])).toThrow(/not of the same words/);
  });
});
