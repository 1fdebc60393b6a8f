import { describe, expect, it } from "vitest";
import { readCifar } from "../../src/data/cifar";
import { e2ePrompts, e2eSamples, readE2e } from "../../src/data/e2e";
import { ImageBatches, normalisePixels } from "../../src/data/images";
import { conversationSamples, readConversations } from "../../src/data/jsonl";
import { IGNORED_LABEL } from "../../src/data/sample";
import { decodeSpans, readSquad, squadFeatures } from "../../src/data/squad";
import { loadTokenizer } from "../../src/data/tokenizer";
import { memoryDirectory } from "../../src/io/directory";
import type { Directory } from "../../src/io/directory";
import { createModel } from "../../src/model/families";
import { openDirectory } from "../../src/node/directory";
import { tiny } from "../support/tiny";

const tokenizer = async (name: string) => loadTokenizer(await openDirectory(`test/interop-data/tokenizers/${name}`));

async function directoryWith(file: string, content: string | Uint8Array): Promise<Directory> {
  const directory = memoryDirectory("data");
  await directory.write(file, typeof content === "string" ? new TextEncoder().encode(content) : content);
  return directory;
}

const CONTEXT = "In 1886, the Café 😀 opened; its owner's name was Émile O'Hara-Smith. It is not boring.";

const squad = (answers: readonly { text: string; answer_start: number }[], context = CONTEXT): string =>
  JSON.stringify({
    version: "1.1",
    data: [{ title: "t", paragraphs: [{ context, qas: [{ id: "q1", question: "Who?", answers }] }] }],
  });

describe("SQuAD", () => {
  // Python counts code points: the emoji is one of them.
  const at = (text: string): number => [...CONTEXT.slice(0, CONTEXT.indexOf(text))].length;

  it.each(["bert", "gpt2", "roberta"])(
    "finds answers in the tokens of %s, and decodes them to the same text",
    async (name) => {
      const tokens = await tokenizer(name);
      for (const text of ["1886", "Café", "Émile", "not boring", "O"]) {
        const directory = await directoryWith("dev.json", squad([{ text, answer_start: at(text) }]));
        const examples = await readSquad(directory, "dev.json");
        const features = squadFeatures(examples, tokens);
        expect(features).toHaveLength(1);
        const { sample, spans } = features[0]!;
        // Features of SQuAD have both labels in one array.
        const [start, end] = sample.label as Int32Array;
        expect(spans[start!]?.[0], text).toBe(CONTEXT.indexOf(text));
        const oneHot = (index: number) => Float32Array.from(sample.ids, (_, i) => (i === index ? 1 : 0));
        expect(decodeSpans(examples, features, [{ start: oneHot(start!), end: oneHot(end!) }]).get("q1")).toBe(text);
      }
    },
  );

  it("counts characters in starts before UTF-16 units, where an answer is at both places", async () => {
    const context = "\u{1f600} film a film";
    const answers = [
      { text: "film", answer_start: 2 },
      { text: " ", answer_start: 6 },
      { text: "a", answer_start: 8 },
    ];
    const [example] = await readSquad(await directoryWith("d.json", squad(answers, context)), "d.json");
    // The space is at both places; the last start, as JavaScript counts, is at one alone.
    expect(example!.answers.map(({ start }) => start)).toEqual([3, 7, 8]);
  });

  it("cuts windows that cover the context, and labels windows without the answer 0, 0", async () => {
    const tokens = await tokenizer("bert");
    const words = Array.from({ length: 40 }, (_, i) => (i === 33 ? "boring" : "film"));
    const context = words.join(" ");
    const directory = await directoryWith(
      "d.json",
      squad([{ text: "boring", answer_start: context.indexOf("boring") }], context),
    );
    const features = squadFeatures(await readSquad(directory, "d.json"), tokens, { maxLength: 20, stride: 8 });
    const covered = new Set(features.flatMap(({ spans }) => spans.flatMap((span) => (span ? [span[0]] : []))));
    expect(covered.size, "words in some window").toBe(40);
    expect(features.every(({ sample }) => sample.ids.length <= 20)).toBe(true);
    const inside = features.filter(({ spans }) => spans.some((span) => span?.[0] === context.indexOf("boring")));
    for (const { sample } of features) {
      // Features of SQuAD have both labels in one array.
      const [start] = sample.label as Int32Array;
      expect(start! > 0).toBe(inside.some((feature) => feature.sample === sample));
    }
  });

  it("takes the best pair of start and end in all windows, where the end is not before the start", async () => {
    const tokens = await tokenizer("bert");
    const examples = await readSquad(
      await directoryWith("d.json", squad([{ text: "1886", answer_start: at("1886") }])),
      "d.json",
    );
    const [feature] = squadFeatures(examples, tokens);
    const first = feature!.spans.findIndex(Boolean);
    const scores = (index: number, value: number) =>
      Float32Array.from(feature!.sample.ids, (_, i) => (i === index ? value : 0));
    // The highest end score is before the highest start score, so the best pair is a single token.
    const start = scores(first + 3, 5);
    const end = scores(first, 9);
    const text = decodeSpans(examples, [feature!], [{ start, end }]).get("q1")!;
    expect(CONTEXT.startsWith(text)).toBe(true);
  });

  it.each<[string, string, RegExp]>([
    ["no answers", squad([]), /question q1 has no answers\nuse SQuAD v1\.1/],
    ["an answer elsewhere", squad([{ text: "1886", answer_start: 7 }]), /"1886" of question q1 is not at 7/],
    ["another layout", '{"data": [{"paragraphs": 3}]}', /d\.json in data.*paragraphs/],
    ["no questions", '{"data": []}', /has no questions/],
    ["no JSON", "{", /d\.json/],
  ])("refuses %s", async (_, content, fact) => {
    await expect(readSquad(await directoryWith("d.json", content), "d.json")).rejects.toThrow(fact);
  });
});

describe("E2E", () => {
  const CSV =
    'mr,ref\n"name[The Vaults], food[Italian]","The Vaults, an ""Italian"" pub."\n"name[The Vaults], food[Italian]",Eat Italian.\nname[Cocum],Cocum is cheap.\n';

  it("groups the references of a meaning, quotes and commas included", async () => {
    expect(await readE2e(await directoryWith("t.csv", CSV), "t.csv")).toEqual([
      { meaning: "name[The Vaults], food[Italian]", references: ['The Vaults, an "Italian" pub.', "Eat Italian."] },
      { meaning: "name[Cocum]", references: ["Cocum is cheap."] },
    ]);
  });

  it("reads a test set of meanings alone, and refuses a file that is not UTF-8", async () => {
    const meanings = await readE2e(await directoryWith("t.csv", "mr\nname[Cocum]\n"), "t.csv");
    expect(meanings).toEqual([{ meaning: "name[Cocum]", references: [] }]);
    const broken = await directoryWith("t.csv", Uint8Array.of(0x6d, 0x72, 0x0a, 0xff));
    await expect(readE2e(broken, "t.csv")).rejects.toThrow(/line 2: not valid UTF-8/);
  });

  it("has its loss on the text and not on the meaning", async () => {
    const tokens = await tokenizer("gpt2");
    const examples = await readE2e(await directoryWith("t.csv", CSV), "t.csv");
    const { samples, truncated, dropped } = e2eSamples(examples, tokens);
    expect([samples.length, truncated, dropped]).toEqual([3, 0, 0]);
    const end = tokens.specialId("eos");
    const encode = (text: string): number[] => [...tokens.encode(text, undefined, { specialTokens: false }).ids];
    // As Microsoft's LoRA encodes a sample: meaning, end token, space and text, end token.
    const prompt = [...encode("name[Cocum]"), end];
    expect([...(samples[2]?.ids ?? [])]).toEqual([...prompt, ...encode(" Cocum is cheap."), end]);
    expect([...e2ePrompts(examples, tokens)].map((ids) => [...ids])[1]).toEqual(prompt);
    for (const { ids, label } of samples) {
      // Samples of a language model have one label per token.
      const labels = label as Int32Array;
      const answer = ids.filter((_, i) => labels[i] !== IGNORED_LABEL);
      expect(tokens.decode(answer)).not.toContain("[");
      expect(answer.at(-1)).toBe(end);
      expect(labels.filter((tokenLabel, i) => tokenLabel !== IGNORED_LABEL && tokenLabel !== ids[i])).toHaveLength(0);
    }
  });

  it("names the line of a fault after quoted line ends", async () => {
    const content = 'mr,ref\n"a\nb\nc",d\ne,"f\ng"\n,h\n';
    await expect(readE2e(await directoryWith("t.csv", content), "t.csv")).rejects.toThrow(
      /line 7: the meaning is empty/,
    );
  });

  it.each<[string, string, RegExp]>([
    ["another header", "meaning,ref\na,b\n", /line 1: the header has meaning, ref, not mr and ref/],
    ["another second column", "mr,text\na,b\n", /line 1: the header has mr, text, not mr and ref/],
    ["an empty meaning", "mr,ref\na,b\n,c\n", /line 3: the meaning is empty/],
    ["an empty file", "", /t\.csv in data is empty/],
    ["a cell too many", "mr,ref\na,b\na,b,c\n", /line 3: 3 cells, not 2/],
    ["an open quote", 'mr,ref\na,"b\n', /line \d+: .*[Qq]uote/],
  ])("refuses %s", async (_, content, fact) => {
    await expect(readE2e(await directoryWith("t.csv", content), "t.csv")).rejects.toThrow(fact);
  });
});

describe("JSON lines", () => {
  const LINES = [
    {
      messages: [
        { role: "user", content: "is it dull" },
        { role: "assistant", content: "never" },
        { role: "user", content: "why" },
        { role: "assistant", content: "the plot" },
      ],
    },
    { instruction: "say it", input: "the film", output: "not boring" },
    { prompt: "the film is ", completion: "boring" },
  ]
    .map((line) => JSON.stringify(line))
    .join("\n");

  it("have their loss on the answers, in all turns", async () => {
    const tokens = await tokenizer("gpt2");
    const conversations = await readConversations(await directoryWith("c.jsonl", LINES), "c.jsonl");
    const answers = conversationSamples(conversations, tokens).samples.map(({ ids, label }) =>
      tokens
        // Samples of a language model have one label per token.
        .decode(ids.filter((_, i) => (label as Int32Array)[i] !== IGNORED_LABEL))
        .replace(/\s+/g, " ")
        .trim(),
    );
    expect(answers).toEqual(["never the plot", "not boring", "boring"]);
  });

  it.each<[string, string, RegExp]>([
    ["broken JSON", `${LINES}\n{"prompt": `, /line 4: not JSON/],
    ["another form", '{"question": "x"}', /line 1: neither messages/],
    ["no answer", '{"messages": [{"role": "user", "content": "x"}]}', /line 1: no answer to learn from/],
    ["an unknown role", '{"messages": [{"role": "robot", "content": "x"}]}', /line 1: message 1 \(robot\) has a role/],
  ])("refuses %s", async (_, content, fact) => {
    await expect(readConversations(await directoryWith("c.jsonl", content), "c.jsonl")).rejects.toThrow(fact);
  });

  it("may have blank lines, which count in line numbers", async () => {
    const directory = await directoryWith("c.jsonl", `\n${LINES}\n  \n{"prompt": "a"}\n`);
    await expect(readConversations(directory, "c.jsonl")).rejects.toThrow(/line 6: neither/);
    expect(await readConversations(await directoryWith("c.jsonl", `\n${LINES}\n\n`), "c.jsonl")).toHaveLength(3);
  });

  it("are left out and counted where the answer is cut off, and refused if none is left", async () => {
    const long = [
      { text: "a long question", isAnswer: false },
      { text: "answer", isAnswer: true },
    ];
    const short = [{ text: "the answer is long", isAnswer: true }];
    const tokens = await tokenizer("gpt2");
    const { samples, truncated, dropped } = conversationSamples([long, short], tokens, { maxLength: 2 });
    expect([samples.length, truncated, dropped]).toEqual([1, 1, 1]);
    expect(() => conversationSamples([long], tokens, { maxLength: 1 })).toThrow(
      /no text has an answer within its first 1/,
    );
  });
});

describe("CIFAR", () => {
  const image = (labels: number[], value: number) => [...labels, ...Array<number>(3072).fill(value)];

  it("reads labels and normalised pixels of both data sets", async () => {
    const ten = await readCifar(
      await directoryWith("b.bin", Uint8Array.from([...image([7], 0), ...image([2], 255)])),
      "b.bin",
      10,
    );
    expect(ten.map(({ label, pixels }) => [label, pixels[0], pixels.length])).toEqual([
      [7, -1, 3072],
      [2, 1, 3072],
    ]);
    const hundred = await readCifar(await directoryWith("b.bin", Uint8Array.from(image([4, 99], 51))), "b.bin", 100);
    expect(hundred[0]!.label).toBe(99);
    expect(hundred[0]!.pixels[5]).toBeCloseTo(-0.6, 6);
  });

  it("refuses truncated files and labels that do not exist", async () => {
    const cut = await directoryWith("b.bin", Uint8Array.from(image([7], 0).slice(1)));
    await expect(readCifar(cut, "b.bin", 10)).rejects.toThrow(/3072 bytes, not a multiple of 3073/);
    const wrong = await directoryWith("b.bin", Uint8Array.from(image([10], 0)));
    await expect(readCifar(wrong, "b.bin", 10)).rejects.toThrow(/image 1 has the label 10/);
  });
});

describe("batches of images", () => {
  const vit = createModel(tiny.vit({ image_size: 4, patch_size: 2, num_labels: 3 }));
  const sample = (value: number, label: number) => ({ pixels: new Float32Array(16).fill(value), label });

  it("start again after each epoch, and the last one is filled with images that do not count", () => {
    const batches = new ImageBatches([sample(1, 0), sample(2, 1), sample(3, 2)], vit, { size: 2, shuffle: false });
    expect(batches.perEpoch).toBe(2);
    const [first, second] = [...batches.restOfEpoch()];
    expect([...first!.labels]).toEqual([0, 1]);
    expect([...second!.labels]).toEqual([2, IGNORED_LABEL]);
    expect(second).toMatchObject({ rows: 1, size: 2, length: 5 });
    expect(second!.pixels![0]).toBe(3);
  });

  it("refuse other sizes, labels and models", () => {
    expect(() => new ImageBatches([{ pixels: new Float32Array(9), label: 0 }], vit, { size: 1 })).toThrow(
      /image 1 has 9 values, not 1 x 4 x 4/,
    );
    expect(() => new ImageBatches([sample(1, 3)], vit, { size: 1 })).toThrow(/label 3; the model has 3 classes/);
    const bert = createModel(tiny.bert());
    expect(() => new ImageBatches([sample(1, 0)], bert, { size: 1 })).toThrow(/bert is a model of texts/);
  });

  it("are normalised by channel", () => {
    const values = normalisePixels([0, 255, 255, 0], 2, { mean: [0, 0.5], deviation: [1, 0.25] });
    expect([...values]).toEqual([0, 1, 2, -2]);
  });
});
