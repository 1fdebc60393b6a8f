import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import {
  AG_NEWS_CLASSES,
  answerPairs,
  conversationSamples,
  memoryDirectory,
  readAgNews,
  readConversations,
  readIdx,
  readImageList,
  readPairs,
  readSamsum,
  summaryConversations,
} from "safetape/data";
import type { Directory } from "safetape";
import { readCsv } from "../../src/data/csv";
import { loadTokenizer } from "../../src/data/tokenizer";
import { openDirectory } from "../../src/node/directory";
import { failure } from "../support/failure";

const folder = (files: Readonly<Record<string, string | Uint8Array>>): Directory =>
  memoryDirectory(
    "data",
    Object.fromEntries(
      Object.entries(files).map(([file, content]) => [
        file,
        typeof content === "string" ? Buffer.from(content) : content,
      ]),
    ),
  );

it("rows of CSV that cannot be read are left out where the reader is told of them", async () => {
  const told: [number, string][] = [];
  const directory = folder({ "t.csv": 'text,label\n"two\nlines",1\nonly one\na,2\nb,3,4\n' });
  const rows = await readCsv(directory, "t.csv", { onBadLine: ({ fact }, line) => told.push([line, fact]) });
  expect(rows.map(({ line, cells }) => [line, ...cells])).toEqual([
    [1, "text", "label"],
    [2, "two\nlines", "1"],
    [5, "a", "2"],
  ]);
  expect(told).toEqual([
    [4, "t.csv in data, line 4: 1 cells, not 2"],
    [6, "t.csv in data, line 6: 3 cells, not 2"],
  ]);
});

describe("AG News", () => {
  it("has classes from 1, quoted cells, and title and description as one text", async () => {
    const rows = '"3","Oil, and ""gas""","Prices\\rise."\n4,Chips,Faster\n"1","A","Two\nlines"\n';
    const { examples, labelNames } = await readAgNews(folder({ "train.csv": rows }), "train.csv");
    expect(examples).toEqual([
      { label: 2, text: 'Oil, and "gas" Prices\\rise.' },
      { label: 3, text: "Chips Faster" },
      { label: 0, text: "A Two\nlines" },
    ]);
    expect(labelNames).toEqual(AG_NEWS_CLASSES);
  });

  it.each<[string, string, RegExp]>([
    ["a header", "class,title,description\n1,a,b\n", /line 1: the class is "class", not 1 to 4/],
    ["another class", '1,a,b\n"1","c\nd","e"\n5,f,g\n', /line 4: the class is "5"/],
    ["another layout", "text,label\na,1\n", /line 1: 2 cells, not 3/],
    ["an open quote", '1,"a,b\n', /line \d: .*[Qq]uote/],
    ["empty texts", "1,, \n", /line 1: title and description are empty/],
  ])("refuses %s", async (_, content, fact) => {
    expect((await failure(readAgNews(folder({ "t.csv": content }), "t.csv"))).fact).toMatch(fact);
  });
});

describe("SAMSum", () => {
  const item = { id: "1", dialogue: "Ann: Tea?\r\nBob: Yes", summary: "Bob wants tea." };

  it("gives dialogues and summaries, and skips blank ones", async () => {
    const json = JSON.stringify([item, { ...item, id: "2", dialogue: " " }]);
    const { examples, skipped } = await readSamsum(folder({ "train.json": json }), "train.json");
    expect(examples).toEqual([{ id: "1", dialogue: "Ann: Tea?\nBob: Yes", summary: "Bob wants tea." }]);
    expect(skipped).toBe(1);
  });

  it("counts the summary and the end token in the loss, and nothing else", async () => {
    const tokenizer = await loadTokenizer(await openDirectory("test/interop-data/tokenizers/gpt2"));
    const { samples } = conversationSamples(summaryConversations([item]), tokenizer);
    const { ids, label } = samples[0]!;
    // Samples of a language model have one label per token.
    const answer = ids.filter((_, i) => (label as Int32Array)[i] !== -100);
    expect(tokenizer.decode(answer.slice(0, -1))).toBe(" Bob wants tea.");
    expect(answer.at(-1)).toBe(tokenizer.specialId("eos"));
  });

  it.each<[string, string, RegExp]>([
    ["JSON lines", `${JSON.stringify(item)}\n${JSON.stringify(item)}\n`, /t\.json in data/],
    ["an item without a summary", JSON.stringify([item, { id: "2", dialogue: "a" }]), /t\.json in data.*1.*summary/],
    ["blank items alone", JSON.stringify([{ ...item, summary: "" }]), /no dialogue with a summary/],
  ])("refuses %s", async (_, content, fact) => {
    expect((await failure(readSamsum(folder({ "t.json": content }), "t.json"))).fact).toMatch(fact);
  });
});

describe("LaMini's keys", () => {
  it("read as instruction and output do", async () => {
    const read = async (line: object) => readConversations(folder({ "a.jsonl": JSON.stringify(line) }), "a.jsonl");
    const lamini = await read({ instruction: "Add 1 and 2", response: "3", instruction_source: "x" });
    expect(lamini).toEqual(await read({ instruction: "Add 1 and 2", output: "3" }));
    expect(lamini[0]!.at(-1)).toEqual({ text: "3", isAnswer: true });
  });
});

describe("pairs of texts", () => {
  const read = async (file: string, content: string | Uint8Array) =>
    answerPairs(await readPairs(folder({ [file]: content }), file));

  it("have no quoting in tab-separated files, and may end lines as Windows does", async () => {
    const rows = 'source\ttarget\r\n"a, ""b"""\tc"d\r\n\\n e \t f\r\n\r\n';
    expect(await read("t.tsv", rows)).toEqual([
      { source: '"a, ""b"""', target: 'c"d' },
      { source: "\\n e ", target: " f" },
    ]);
  });

  it("have JSON's quoting in JSON lines, under both names, with other keys and blank lines", async () => {
    const lines = [
      { source: 'say "a"\tand\nb', target: "é😀", id: 3 },
      { prompt: "c", completion: "d" },
    ].map((line) => JSON.stringify(line));
    expect(await read("t.jsonl", `\uFEFF${lines.join("\r\n\n")}\n`)).toEqual([
      { source: 'say "a"\tand\nb', target: "é😀" },
      { source: "c", target: "d" },
    ]);
  });

  it("are every answer of a conversation after all that precedes it", async () => {
    const messages = ["user a", "assistant b", "user c", "assistant d"].map((turn) => {
      const [role, content] = turn.split(" ");
      return { role, content };
    });
    const pairs = await read("t.jsonl", JSON.stringify({ messages }));
    expect(pairs.map(({ target }) => target)).toEqual(["b\n", "d\n"]);
    expect(pairs[1]!.source).toBe(`${pairs[0]!.source}b\n<|user|>\nc\n<|assistant|>\n`);
  });

  it.each<[string, string, string | Uint8Array, RegExp]>([
    ["a table without a header", "t.tsv", "a\tb\n", /t\.tsv in data, line 1: the header is not source and target/],
    ["a header in another order", "t.tsv", "target\tsource\na\tb\n", /line 1: the header is not/],
    ["a header with nothing below", "t.tsv", "source\ttarget\n\n", /t\.tsv in data has no rows/],
    ["one column", "t.tsv", "source\ttarget\na\tb\nc\n", /line 3: not two texts with a tab/],
    ["three columns", "t.tsv", "source\ttarget\na\tb\tc\n", /line 2: not two texts/],
    ["an empty target", "t.tsv", "source\ttarget\na\t \n", /line 2: not two texts/],
    ["a blank row between rows", "t.tsv", "source\ttarget\na\tb\n\nc\td\n", /line 3: not two texts/],
    ["an empty table", "t.tsv", "\n", /t\.tsv in data is empty/],
    ["bytes that are not UTF-8", "t.tsv", Uint8Array.of(97, 9, 98, 10, 255, 10), /line 2: not valid UTF-8/],
    ["a source without a target", "t.jsonl", '\n{"source": "a"}\n', /t\.jsonl in data, line 2: neither messages/],
    ["a target that is no text", "t.jsonl", '{"source": "a", "target": 1}\n', /line 1: neither messages/],
    ["a target of spaces", "t.jsonl", '{"source": "a", "target": " "}\n', /line 1: no answer to learn from/],
    ["a line cut short", "t.jsonl", '{"source": "a", "target": "b"}\n{"source": "a', /line 2: not JSON/],
    ["a list over several lines", "t.json", '[\n{"source": "a", "target": "b"}\n]', /line 1: not JSON/],
  ])("are refused with %s", async (_, file, content, fact) => {
    expect((await failure(read(file, content))).fact).toMatch(fact);
  });
});

/** An IDX file: type 8 (unsigned bytes), the axes, the values. */
const idx = (shape: readonly number[], values: readonly number[], type = 8): Uint8Array => {
  const bytes = new Uint8Array(4 + 4 * shape.length + values.length);
  bytes.set([0, 0, type, shape.length]);
  shape.forEach((length, i) => new DataView(bytes.buffer).setUint32(4 + 4 * i, length));
  bytes.set(values, 4 + 4 * shape.length);
  return bytes;
};

describe("IDX files", () => {
  const images = idx([2, 2, 2], [0, 255, 51, 0, 255, 255, 255, 255]);
  const labels = idx([2], [9, 4]);

  it.each([
    ["plain", { images, labels }],
    ["compressed with gzip", { images: gzipSync(images), labels: gzipSync(labels) }],
  ])("read %s", async (_, files) => {
    const samples = await readIdx(folder(files), "images", "labels", { classes: 10 });
    expect(samples.map(({ label }) => label)).toEqual([9, 4]);
    const pixels = [...samples[0]!.pixels].map((value) => Number(value.toFixed(6)));
    // (value / 255 - 0.5) / 0.5.
    expect(pixels).toEqual([-1, 1, -0.6, -1]);
  });

  it("are resized, and their grey becomes three channels", async () => {
    const spec = { size: 4, channels: 3 };
    const samples = await readIdx(folder({ images, labels }), "images", "labels", { classes: 10, spec });
    expect(samples[1]!.pixels).toEqual(new Float32Array(48).fill(1));
  });

  const bomb = gzipSync(Buffer.concat([idx([2], [0, 1]), Buffer.alloc(1 << 24)]));
  it.each<[string, Record<string, Uint8Array>, RegExp]>([
    ["another file", { images: Buffer.from("GIF89a..........") }, /images in data is not an IDX file/],
    ["labels in the images' place", { images: labels }, /images in data has 1 axes of type 8, not 3/],
    ["floats", { images: idx([2, 1, 1], [0, 0], 13) }, /of type 13/],
    ["images without pixels", { images: idx([2, 0, 2], []) }, /the shape 2 x 0 x 2/],
    ["images of 2^62 pixels", { images: idx([2, 2 ** 31, 2 ** 31], []) }, /the shape 2 x 2147483648/],
    [
      "a file cut off",
      { images: images.subarray(0, -1) },
      /declares 2 x 2 x 2 values, which take 24 bytes, and has 23/,
    ],
    ["a longer file", { images: Buffer.concat([images, Buffer.alloc(1)]) }, /take 24 bytes, and has more/],
    ["other labels", { labels: idx([3], [0, 1, 2]) }, /images in data has 2 images for 3 labels/],
    ["a label too large", { labels: idx([2], [0, 10]) }, /labels in data: image 2 has the label 10/],
    ["gzip cut off", { images: gzipSync(images).subarray(0, -9) }, /images in data/],
    ["a gzip bomb", { labels: bomb }, /labels in data declares 2 values, which take 10 bytes, and has more/],
  ])("refuse %s", async (_, files, fact) => {
    const directory = folder({ images, labels, ...files });
    expect((await failure(readIdx(directory, "images", "labels", { classes: 10 }))).fact).toMatch(fact);
  });
});

describe("lists of images", () => {
  it("read paths and classes in each of their formats", async () => {
    const directory = folder({
      "train.csv": 'jpg/1.jpg,rose\n"a,b.jpg","lily, white"\n',
      "val_annotations.txt": "val_0.JPEG\tn0344\t0\t32\t44\t62\n",
      "train.txt": "apple_pie/100\nwaffles/7\n",
    });
    expect(await readImageList(directory, "train.csv", "csv")).toEqual([
      { path: "jpg/1.jpg", name: "rose" },
      { path: "a,b.jpg", name: "lily, white" },
    ]);
    expect(await readImageList(directory, "val_annotations.txt", "annotations")).toEqual([
      { path: "val_0.JPEG", name: "n0344" },
    ]);
    expect(await readImageList(directory, "train.txt", "food")).toEqual([
      { path: "apple_pie/100.jpg", name: "apple_pie" },
      { path: "waffles/7.jpg", name: "waffles" },
    ]);
  });

  it.each(["../secret.png", "/etc/a.png", "a//b.png", "a/./b.png", "..", "C:\\a.png"])(
    "refuse the path %s",
    async (path) => {
      const read = readImageList(folder({ "t.csv": `a.png,x\n${path},x\n` }), "t.csv", "csv");
      expect((await failure(read)).fact).toMatch(/t\.csv in data, line 2: .* is not a path below the folder/);
    },
  );

  it("refuse a line without a class", async () => {
    const read = readImageList(folder({ "t.csv": "a.png,\n" }), "t.csv", "csv");
    expect((await failure(read)).fact).toMatch(/line 1: no image and class/);
  });
});
