import { describe, expect, test } from "vitest";
import { DataError, FileFormatError } from "../../src/base/errors";
import { readGlue } from "../../src/data/glue";
import type { GlueSplit } from "../../src/data/glue";
import { GLUE_TASKS, isGlueTask } from "../../src/data/glue-tasks";
import type { GlueTaskName } from "../../src/data/glue-tasks";
import { readTsv } from "../../src/data/tsv";
import { memoryDirectory } from "../../src/io/directory";

const read = (task: GlueTaskName, text: string, file = "train.tsv", split?: GlueSplit) =>
  readGlue(memoryDirectory("glue", { [file]: new TextEncoder().encode(text) }), file, task, split);

const table = (...rows: string[][]): string => rows.map((row) => `${row.join("\t")}\n`).join("");

const MNLI =
  "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse sentence1 sentence2 label1 gold_label";
const STSB = "index genre filename year old_index source1 source2 sentence1 sentence2 score";

describe("the layout of a task of GLUE", () => {
  const pair = { text: "one", pair: "two" };

  test.each<[GlueTaskName, string, unknown[]]>([
    [
      "cola",
      table(["gj04", "1", "", "Fine."], ["gj04", "0", "*", "Not fine be."]),
      [
        { text: "Fine.", label: 1 },
        { text: "Not fine be.", label: 0 },
      ],
    ],
    ["sst2", table(["sentence", "label"], ["a joy ", "1"]), [{ text: "a joy ", label: 1 }]],
    [
      "mrpc",
      table(["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"], ["1", "7", "8", "one", "two"]),
      [{ ...pair, label: 1 }],
    ],
    [
      "qqp",
      table(["id", "qid1", "qid2", "question1", "question2", "is_duplicate"], ["0", "1", "2", "one", "two", "0"]),
      [{ ...pair, label: 0 }],
    ],
    [
      "stsb",
      table(STSB.split(" "), ["0", "g", "f", "2012", "1", "s", "s", "one", "two", "3.250"]),
      [{ ...pair, label: 3.25 }],
    ],
    [
      "mnli",
      table(MNLI.split(" "), ["0", "1", "1n", "g", "(", "(", "(", "(", "one", "two", "neutral", "contradiction"]),
      [{ ...pair, label: 2 }],
    ],
    [
      "qnli",
      table(["index", "question", "sentence", "label"], ["0", "one", "two", "not_entailment"]),
      [{ ...pair, label: 1 }],
    ],
    [
      "rte",
      table(["index", "sentence1", "sentence2", "label"], ["0", "one", "two", "entailment"]),
      [{ ...pair, label: 0 }],
    ],
  ])("is read: %s", async (task, text, examples) => {
    const dataset = await read(task, text);
    expect(dataset).toEqual({ examples, labelNames: GLUE_TASKS[task].labelNames, skipped: 0 });
  });

  test.each<[GlueTaskName, string[][]]>([
    [
      "cola",
      [
        ["index", "sentence"],
        ["0", "one"],
      ],
    ],
    [
      "sst2",
      [
        ["index", "sentence"],
        ["0", "one"],
      ],
    ],
    [
      "mrpc",
      [
        ["index", "#1 ID", "#2 ID", "#1 String", "#2 String"],
        ["0", "7", "8", "one", "two"],
      ],
    ],
    [
      "qqp",
      [
        ["id", "question1", "question2"],
        ["0", "one", "two"],
      ],
    ],
    ["stsb", [STSB.split(" ").slice(0, -1), ["0", "g", "f", "2012", "1", "s", "s", "one", "two"]]],
    ["mnli", [MNLI.split(" ").slice(0, 10), ["0", "1", "1n", "g", "(", "(", "(", "(", "one", "two"]]],
    [
      "qnli",
      [
        ["index", "question", "sentence"],
        ["0", "one", "two"],
      ],
    ],
    [
      "rte",
      [
        ["index", "sentence1", "sentence2"],
        ["0", "one", "two"],
      ],
    ],
  ])("is read without labels from a test file: %s", async (task, rows) => {
    const { examples } = await read(task, table(...rows), "test.tsv");
    const single = task === "cola" || task === "sst2";
    expect(examples).toEqual([{ text: "one", ...(single ? {} : { pair: "two" }), label: -1 }]);
  });

  test("gives the labels of MNLI and QNLI the ids of the Hugging Face data sets", () => {
    expect(GLUE_TASKS.mnli.labelNames).toEqual(["entailment", "neutral", "contradiction"]);
    expect(GLUE_TASKS.qnli.labelNames).toEqual(["entailment", "not_entailment"]);
    expect([isGlueTask("rte"), isGlueTask("toString")]).toEqual([true, false]);
  });

  test("lets incomplete rows of QQP be skipped and counted, but not wrong labels", async () => {
    const header = ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"];
    const rows = [
      ["0", "1", "2", "one", "two", "1"],
      ["1", "broken"],
      ["2", "1", "2", "one", "", "0"],
    ];
    expect(await read("qqp", table(header, ...rows))).toMatchObject({ examples: [{ label: 1 }], skipped: 2 });
    await expect(read("qqp", table(header, ["0", "1", "2", "one", "two", "2"]))).rejects.toThrow(
      /line 2: the label "2"/,
    );
  });
});

describe("files as editors save them", () => {
  test("may have a byte order mark, CRLF, no line end at the end, or empty lines there", async () => {
    const { examples } = await read("sst2", "\ufeffsentence\tlabel\r\na joy\t1\r\na bore\t0\r\n\r\n\r\n");
    expect(examples.map(({ text, label }) => [text, label])).toEqual([
      ["a joy", 1],
      ["a bore", 0],
    ]);
    expect((await read("sst2", "sentence\tlabel\na joy\t1")).examples.length).toBe(1);
  });

  test("have quotes and other line separators as text", async () => {
    const { examples } = await read("sst2", 'sentence\tlabel\n"a joy\t1\n"" so \u2028 \u0085 it\r goes "\t0\n');
    expect(examples.map(({ text }) => text)).toEqual(['"a joy', '"" so \u2028 \u0085 it\r goes "']);
  });
});

describe("an error names file and line for", () => {
  const sst2 = (...rows: string[]): string => ["sentence\tlabel", ...rows].join("\n");

  test.each<[string, GlueTaskName, string, RegExp]>([
    ["an empty file", "sst2", "", /^train.tsv in glue is empty/],
    ["a file of line ends", "sst2", "\n\r\n\n", /is empty/],
    ["a header alone", "sst2", sst2(), /train.tsv in glue, line 1: the file ends without an example/],
    ["no header", "sst2", "a joy\t1\na bore\t0", /line 1: the header has "a joy" as column 1, not "sentence"/],
    ["another header", "sst2", "sentence\tscore\na joy\t1", /line 1: the header has "score" as column 2, not "label"/],
    ["a header too short", "rte", "index\tsentence1\n", /line 1: the header has "nothing" as column 3/],
    ["a missing column", "sst2", sst2("a joy\t1", "a bore"), /train.tsv in glue, line 3: 1 columns, not 2/],
    ["a stray tab", "sst2", sst2("a\tjoy\t1"), /line 2: 3 columns, not 2/],
    ["an empty line in the middle", "sst2", sst2("a joy\t1", "", "a bore\t0"), /line 3: 1 columns, not 2/],
    ["an unknown label", "sst2", sst2("a joy\tpositive"), /line 2: the label "positive" is unknown\nlabels are 0, 1/],
    ["a label that is a prototype's key", "sst2", sst2("a joy\tconstructor"), /label "constructor"/],
    ["an empty label", "sst2", sst2("a joy\t"), /label "" is unknown/],
    ["an empty text", "sst2", sst2("a joy\t1", " \t0"), /line 3: the text in column 1 is empty/],
    ["CoLA with a header", "cola", "source\tlabel\tmark\tsentence\n", /line 1: the label "label" is unknown/],
    [
      "a score out of range",
      "stsb",
      table(STSB.split(" "), [..."0123456".split(""), "one", "two", "5.1"]),
      /line 2: the label "5.1" is no/,
    ],
    [
      "a score that is text",
      "stsb",
      table(STSB.split(" "), [..."0123456".split(""), "one", "two", "high"]),
      /"high" is not a number/,
    ],
    ["no score", "stsb", table(STSB.split(" "), [..."0123456".split(""), "one", "two", ""]), /"" is not a number/],
  ])("%s", async (_, task, text, message) => {
    await expect(read(task, text)).rejects.toThrow(DataError);
    await expect(read(task, text)).rejects.toThrow(message);
  });

  test("bytes that are not UTF-8", async () => {
    const bytes = new TextEncoder().encode("sentence\tlabel\na joy\t1\nx bore\t0\n");
    bytes[bytes.indexOf(0x78)] = 0xff;
    const directory = memoryDirectory("glue", { "train.tsv": bytes });
    await expect(readTsv(directory, "train.tsv")).rejects.toThrow(/train.tsv in glue, line 3: not valid UTF-8/);
  });

  test("a missing file", async () => {
    await expect(readTsv(memoryDirectory("glue"), "dev.tsv")).rejects.toThrow(FileFormatError);
  });
});
