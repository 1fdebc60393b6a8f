import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { evaluateTask } from "../../src/cli/evaluation";
import { UsageError } from "../../src/cli/options";
import { fillingOf, preprocessing } from "../../src/cli/tasks/task-data";
import type { ChooseExamples, ReadOptions } from "../../src/cli/tasks/task-data";
import { readEvaluation, readTask, taskHead } from "../../src/cli/tasks/tasks";
import type { Batch } from "../../src/data/batch";
import { groupByLength } from "../../src/data/packing";
import { IGNORED_LABEL } from "../../src/data/sample";
import { createModel, withHead } from "../../src/model/families";
import type { Model } from "../../src/model/model";
import type { Evaluation } from "../../src/train/evaluate";
import type { BatchSource } from "../../src/train/options";
import { countedLabels } from "../../src/train/plans/inputs";
import type { Trainer } from "../../src/train/trainer";
import { failure } from "../support/failure";
import { useFolder } from "../support/folder";
import { tiny } from "../support/tiny";

const path = useFolder();

const write = (file: string, content: string | Uint8Array): void => {
  mkdirSync(dirname(path(file)), { recursive: true });
  writeFileSync(path(file), content);
};
const image = (file: string): void => {
  mkdirSync(dirname(path(file)), { recursive: true });
  copyFileSync("test/hostile/seeds/png/grey", path(file));
};

/** A model of the task's head, and options to read with. */
async function optionsFor(task: string, data: string) {
  const isImage = /images|mnist|cifar/.test(task);
  const head = await taskHead(task, data);
  const vocabulary = { vocab_size: 500 };
  const config = isImage ? tiny.vit() : head.task === "generation" ? tiny.gpt2(vocabulary) : tiny.bert(vocabulary);
  const load = preprocessing("test/interop-data/tokenizers/bert");
  return { path: data, model: createModel(withHead(config, head)), maxLength: 24, head, ...load };
}

/** The labels of a data set of evaluation, without those of padding. */
async function devLabels(task: string, data: string): Promise<number[]> {
  const { dev } = await readTask(task, await optionsFor(task, data));
  return [...dev!(2)].flatMap(({ labels }) => [...labels]).filter((label) => label !== IGNORED_LABEL);
}

describe("image data sets", () => {
  it.each(["dev", "val", "valid", "validation", "test"])("are evaluated on %s/", async (part) => {
    for (const name of ["train/cat/1.png", "train/dog/2.png", `${part}/dog/3.png`]) image(name);
    expect(await devLabels("images", path())).toEqual([1]);
  });

  it("may lie below images/, and have a folder images/ in every class, as TinyImageNet", async () => {
    for (const name of ["images/train/a/1.png", "images/train/b/2.png", "images/val/b/3.png"]) image(name);
    expect(await devLabels("images", path())).toEqual([1]);
    for (const name of ["tiny/train/n1/images/1.png", "tiny/train/n2/images/2.png", "tiny/val/images/v.png"])
      image(name);
    write("tiny/train/n1/n1_boxes.txt", "1.png\t0\t0\t1\t1\n");
    write("tiny/val/val_annotations.txt", "v.png\tn2\t0\t0\t1\t1\n");
    expect(await devLabels("images", path("tiny"))).toEqual([1]);
  });

  it("may be lists: train.csv, and Food-101's meta/train.txt", async () => {
    for (const name of ["jpg/1.png", "jpg/2.png"]) image(name);
    write("train.csv", "jpg/1.png,rose\njpg/2.png,lily\n");
    write("dev.csv", "jpg/1.png,rose\n");
    expect(await devLabels("images", path())).toEqual([1]);
    for (const name of ["food/images/pie/1.jpg", "food/images/tea/2.jpg"]) image(name);
    write("food/meta/train.txt", "pie/1\ntea/2\n");
    write("food/meta/test.txt", "tea/2\n");
    expect(await devLabels("images", path("food"))).toEqual([1]);
  });

  it("with MATLAB's labels are refused with the conversion", async () => {
    write("imagelabels.mat", "MATLAB 5.0 MAT-file");
    const error = await failure(taskHead("images", path()));
    expect(error.fact).toMatch(/imagelabels\.mat is a MATLAB file/);
    expect(error.remedy).toMatch(/train\.csv with scipy\.io\.loadmat/);
  });

  it("with a class that only the dev set has are refused", async () => {
    for (const name of ["train/cat/1.png", "train/dog/2.png", "dev/fox/3.png"]) image(name);
    const { head: _head, ...options } = await optionsFor("images", path());
    expect((await failure(readTask("images", options))).fact).toMatch(
      /the class fox, which the model is not trained on/,
    );
  });

  it("of Fashion-MNIST have ten classes with names", async () => {
    const header = (...axes: number[]) => [0, 0, 8, axes.length, ...axes.flatMap((n) => [0, 0, 0, n])];
    for (const [part, label] of [
      ["train", 3],
      ["t10k", 9],
    ] as const) {
      write(`${part}-images-idx3-ubyte`, Uint8Array.from([...header(1, 2, 2), 1, 2, 3, 4]));
      write(`${part}-labels-idx1-ubyte`, Uint8Array.from([...header(1), label]));
    }
    expect(await devLabels("fashion_mnist", path())).toEqual([9]);
    const { labelNames } = await readTask("fashion_mnist", await optionsFor("fashion_mnist", path()));
    expect(labelNames?.[9]).toBe("Ankle boot");
  });
});

describe("tasks of texts", () => {
  it("may be compressed, in a folder or alone; a damaged file is named", async () => {
    write("train.csv.gz", gzipSync('"1","a film","not boring"\n'));
    write("test.csv.gz", gzipSync('"4","the film","boring"\n"2","film","is"\n'));
    expect(await devLabels("agnews", path())).toEqual([3, 1]);
    // The file that is named is read, though another of its name is there.
    write("test.csv", '"1","film","is"\n');
    const alone = await optionsFor("agnews", path("test.csv.gz"));
    const batches = (await readTask("agnews", { ...alone, evaluateOnly: true })).dev!(2);
    expect([...batches].flatMap(({ labels }) => [...labels])).toEqual([3, 1]);
    expect(await devLabels("agnews", path()), "the plain one of two").toEqual([0]);
    write("train.csv.gz", gzipSync("text").subarray(0, 12));
    const error = await failure(devLabels("agnews", path()));
    expect(error.fact).toMatch(/train\.csv\.gz in .* cannot be decompressed: /);
    expect(error.remedy).toMatch(/fetch it again/i);
  });

  it("agnews reads train.csv and test.csv", async () => {
    write("train.csv", '"1","a film","not boring"\n');
    write("test.csv", '"4","the film","boring"\n"2","film","is"\n');
    expect(await devLabels("agnews", path())).toEqual([3, 1]);
  });

  it("samsum has prompts and ROUGE of their continuations", async () => {
    const items = [{ id: "1", dialogue: "Ann: the film\nBob: boring", summary: "the film is not boring" }];
    for (const file of ["train.json", "val.json"]) write(file, JSON.stringify(items));
    const options = {
      ...(await optionsFor("samsum", path())),
      ...preprocessing("test/interop-data/tokenizers/gpt2"),
      maxLength: 80,
    };
    const { generation } = await readTask("samsum", options);
    expect(generation!.prompts).toHaveLength(1);
    const tokenizer = await options.tokenizer();
    const { ids } = tokenizer.encode(" the film", undefined, { specialTokens: false });
    const scores = generation!.score([{ ids: [...ids], score: 0, hasEnded: true }]);
    // 2 of 2 words and 2 of 5; one pair of one and of four.
    expect(scores["rouge1"]).toBeCloseTo(4 / 7, 12);
    expect(scores["rouge2"]).toBeCloseTo(2 / 5, 12);
  });
});

describe("masked language modelling", () => {
  it("has rows between special tokens, masks that every epoch draws anew, and always the same on the dev set", async () => {
    write("train.txt", "the film is not boring and the plot is good\n".repeat(20));
    write("dev.txt", "the plot is not boring\n".repeat(20));
    const { head, ...base } = await optionsFor("mlm", path());
    expect(head).toEqual({ task: "masked_lm" });
    await expect(readTask("mlm", base)).rejects.toThrow("the tokenizer has no mask token");
    const options = { ...base, ...preprocessing("examples/model") };
    const data = await readTask("mlm", options);
    const source = data.train(2, 1);
    const epochs = Array.from({ length: 2 }, () => Array.from({ length: source.perEpoch }, () => source.next()));
    const tokenizer = await options.tokenizer();
    const [first, last, mask] = (["cls", "sep", "mask"] as const).map((role) => tokenizer.specialId(role));
    for (const { inputIds, length, rows, predicted, targetLength = 0 } of epochs.flat()) {
      expect(length).toBe(options.maxLength);
      expect(targetLength).toBe(Math.round(0.15 * (length - 2)));
      for (let row = 0; row < rows; row++) {
        expect([inputIds[row * length], inputIds[(row + 1) * length - 1]]).toEqual([first, last]);
        const at = [...predicted!.subarray(row * targetLength, (row + 1) * targetLength)];
        expect(at.every((token) => token > 0 && token < length - 1)).toBe(true);
      }
    }
    expect(epochs.flat().some(({ inputIds }) => inputIds.includes(mask!))).toBe(true);
    expect(epochs[0]!.map(({ predicted }) => predicted)).not.toEqual(epochs[1]!.map(({ predicted }) => predicted));
    expect([...data.dev!(2)]).toEqual([...data.dev!(2)]);
    await expect(readTask("mlm", { ...options, packing: true })).rejects.toThrow("its rows are full as they are");
  });
});

describe("rows of several texts", () => {
  const chats = (count: number): string =>
    Array.from({ length: count }, (_, i) =>
      JSON.stringify({ prompt: "the film is ", completion: i % 3 === 0 ? "good" : "not boring, and never-ending" }),
    ).join("\n");

  const epochOf = (data: BatchSource): Batch[] => Array.from({ length: data.perEpoch }, () => data.next());

  /** Options for a tokenizer that has a token at the end of texts. */
  const chatOptions = async (): Promise<ReadOptions> => {
    const { head: _head, ...options } = await optionsFor("chat", path());
    return { ...options, ...preprocessing("test/interop-data/tokenizers/gpt2") };
  };

  it("have the texts of the files, in rows of one length, for training and for evaluation", async () => {
    for (const [file, count] of [
      ["train", 12],
      ["dev", 5],
    ] as const) {
      write(`${file}.jsonl`, chats(count));
    }
    const options = await chatOptions();
    const [alone, together] = [await readTask("chat", options), await readTask("chat", { ...options, packing: true })];
    const labelled = (batches: Iterable<Batch>): number =>
      [...batches].reduce((sum, batch) => sum + countedLabels(options.model, batch), 0);
    expect(labelled(together.dev!(2))).toBe(labelled(alone.dev!(2)));
    const rows = epochOf(together.train(2, 0));
    expect(labelled(rows)).toBe(labelled(epochOf(alone.train(2, 0))));
    expect(new Set(rows.map(({ length }) => length)), "lengths").toEqual(new Set([24]));
    expect(rows.every(({ isPacked }) => isPacked)).toBe(true);
    const { texts, rows: count, filled } = together.packed!;
    expect(texts).toBe(12);
    expect(count).toBe(rows.reduce((sum, batch) => sum + batch.rows, 0));
    expect(count).toBeLessThan(12);
    expect(filled).toBeGreaterThan(0.6);
    expect(alone.packed).toBeUndefined();
  });

  it("are refused for tasks and models that take a row as one text, and batches by length where all have one", async () => {
    write("train.jsonl", chats(3));
    write("train.txt", "the film is good ".repeat(20));
    for (const name of ["pictures/train/cat/1.png", "pictures/train/dog/2.png"]) image(name);
    const refusal = async (task: string, more: Partial<ReadOptions>, model?: Model): Promise<string> => {
      const { head: _head, ...options } = await optionsFor(task, path(task === "images" ? "pictures" : "."));
      return (await failure(readTask(task, { ...options, ...(model && { model }), ...more }), UsageError)).message;
    };
    const packing = { packing: true };
    const shuffle = { shuffle: groupByLength };
    expect(await refusal("agnews", packing)).toMatch(
      /Packing cannot be used for agnews: this bert model \(sequence_class/,
    );
    expect(await refusal("chat", packing, createModel(tiny.t5()))).toMatch(
      /this t5 model \(seq2seq\) takes a row as one/,
    );
    expect(await refusal("lm", packing)).toMatch(/Packing cannot be used for lm: its rows are full as they are/);
    expect(await refusal("dpo", packing)).toMatch(/Packing cannot be used for dpo: its batches are pairs of answers/);
    expect(await refusal("dpo", shuffle)).toMatch(/Grouping by length cannot be used for dpo: its batches are pairs/);
    expect(await refusal("images", packing)).toMatch(/this vit model \(image_classification\)/);
    expect(await refusal("images", shuffle)).toMatch(/Grouping by length cannot be used for images: all rows have one/);
    expect(await refusal("chat", { ...packing, ...shuffle })).toMatch(/Grouping by length .* all rows have one length/);
    // What is evaluated on beside the training data need not be packed.
    const { head: _head, ...options } = await optionsFor("lm", path("train.txt"));
    const { dev } = await readTask("lm", { ...options, packing: true, evaluateOnly: true });
    expect([...dev!(2)].some(({ isPacked }) => isPacked)).toBe(false);
  });

  it("are batches of similar lengths where these are asked for", async () => {
    write("train.jsonl", chats(200));
    const options = await chatOptions();
    const lengths = async (groupByLength: boolean): Promise<number[]> => {
      const filling = fillingOf({ packing: false, groupByLength, accumulate: 2 });
      const data = await readTask("chat", { ...options, ...filling });
      return epochOf(data.train(4, 0)).map(({ length }) => length);
    };
    const sum = (all: readonly number[]): number => all.reduce((total, length) => total + length, 0);
    expect(sum(await lengths(true))).toBeLessThan(sum(await lengths(false)));
  });
});

describe("words with tags", () => {
  const CONLL = "the O\nfilm B-X\n\nis O\n";
  const numbers = (...tags: readonly number[]) => `${JSON.stringify({ tokens: tags.map(() => "film"), tags })}\n`;
  const evaluation = (predictions: readonly number[], labels: readonly number[]): Evaluation => {
    return { loss: 1, count: labels.length, predictions, labels };
  };

  it("are labelled by their names, sorted, and scored by sentence", async () => {
    write("eng.train", CONLL);
    write("eng.testa", `${CONLL}\nfilm B-X\n`);
    expect(await devLabels("ner", path())).toEqual([1, 0, 1, 0]);
    const { labelNames, scorer } = await readTask("ner", await optionsFor("ner", path()));
    expect(labelNames).toEqual(["B-X", "O"]);
    const { f1_X: f1, ...scores } = scorer!().metrics(evaluation([1, 0, 0, 0], [1, 0, 1, 0]));
    // The third word is its sentence's only one; 2 of 3 entities are right, and both are found.
    expect(scores).toMatchObject({ precision: 2 / 3, recall: 1, accuracy: 3 / 4 });
    expect(f1).toBeCloseTo(0.8, 12);
  });

  it("may be numbers in a list of names, beside the data or in the model's configuration", async () => {
    write("train.jsonl", numbers(2, 0, 1));
    write("dev.jsonl", numbers(2, 1));
    const { head: _head, ...unnamed } = await optionsFor("ner", path());
    expect((await failure(readTask("ner", unnamed))).message).toMatch(
      /tags .* are numbers, and nothing says which\nadd labels\.txt/,
    );
    const config = withHead(tiny.bert(), { task: "token_classification", labelNames: ["I-X", "B-X", "O"] });
    const named = { ...unnamed, model: createModel(withHead(config, await taskHead("ner", path()))) };
    expect((await readTask("ner", named)).labelNames).toEqual(["I-X", "B-X", "O"]);
    write("labels.txt", "B-X\nI-X\nO\n");
    const { labelNames, dev } = await readTask("ner", await optionsFor("ner", path()));
    expect(labelNames).toEqual(["B-X", "I-X", "O"]);
    expect([...dev!(1)].flatMap(({ labels }) => [...labels]).filter((label) => label >= 0)).toEqual([2, 1]);
  });

  it("that the model is not trained on are refused with file and line, also in another corpus", async () => {
    write("train.txt", CONLL);
    write("other/valid.txt", "the O\n\nfilm B-Y\n");
    const { head, ...options } = await optionsFor("ner", path());
    const data = await readTask("ner", options);
    const other = readEvaluation("ner", { ...options, path: path("other") }, { head, data });
    expect((await failure(other)).message).toMatch(/valid\.txt in .*, line 3: .* the tag B-Y, .*\nits tags are B-X, O/);
    write("labels.txt", "O\n");
    const short = { ...options, labelNames: ["O"] };
    expect((await failure(readTask("ner", short))).fact).toMatch(/train\.txt in .*, line 1: .* the tag B-X/);
  });

  it("are kept back by a split, with scores of both parts", async () => {
    write("train.txt", CONLL.repeat(2).replace("is O\n", "is O\n\n"));
    write("dev.txt", "film B-X\n\nis O\n\nthe O\n");
    const { dev, scorer, moreDevSets } = await readTask("ner", {
      ...(await optionsFor("ner", path())),
      split: "half-dev",
    });
    const rows = (batches: Iterable<{ readonly rows: number }>) =>
      [...batches].reduce((sum, batch) => sum + batch.rows, 0);
    expect([rows(dev!(2)), rows(moreDevSets!["test"]!.batches(2))]).toEqual([1, 2]);
    expect(scorer && moreDevSets!["test"]!.scorer, "scorers of both").toBeDefined();
  });

  it("have options that other tasks refuse", async () => {
    expect((await failure(taskHead("sst2", path(), { tagColumn: "2" }))).fact).toMatch(
      /--task sst2 has no tags of words/,
    );
    write("train.txt", "the O X\nfilm B-X X\n");
    expect(await taskHead("ner", path(), { tagColumn: "2" })).toMatchObject({ labelNames: ["B-X", "O"] });
  });
});

describe("a test file of the data's own", () => {
  const jsonl = (word: string) => `${JSON.stringify({ prompt: "the", completion: word })}\n`;
  const samsum = (id: string) => JSON.stringify([{ id, dialogue: "Ann: the film", summary: "boring" }]);
  const e2e = (word: string) => `mr,ref\nname[${word}],the film\nname[${word}],boring\n`;
  /** A block of 24 tokens, and fewer than another. */
  const TEXT = "the film ".repeat(9);
  const GLUE = "sentence\tlabel\nthe film\t1\n";

  // Sizes of the training set, of the validation set, and of what is scored; and what these two are.
  it.each<[string, string, Record<string, string>, string]>([
    [
      "agnews",
      "bert",
      { "train.csv": '"1","a","b"\n', "dev.csv": '"2","a","b"\n', "test.csv": '"3","a","b"\n"4","a","b"\n' },
      "1 validation 1, test 2",
    ],
    ["agnews", "bert", { "train.csv": '"1","a","b"\n', "test.csv": '"3","a","b"\n"4","a","b"\n' }, "1 dev 2, dev 2"],
    [
      "samsum",
      "gpt2",
      { "train.json": samsum("1"), "val.json": samsum("2"), "test.json": samsum("3") },
      "1 validation 1, test 1",
    ],
    [
      "e2e",
      "gpt2",
      { "trainset.csv": e2e("a"), "devset.csv": e2e("b"), "testset_w_refs.csv": e2e("c") },
      "2 validation 1, test 1",
    ],
    [
      "chat",
      "gpt2",
      { "train.jsonl": jsonl("a"), "dev.jsonl": jsonl("b"), "test.jsonl": jsonl("c").repeat(3) },
      "1 validation 1, test 3",
    ],
    ["lm", "gpt2", { "train.txt": TEXT, "dev.txt": TEXT, "test.txt": TEXT }, "1 validation 1, test 1"],
    // GLUE's test labels are hidden.
    ["sst2", "bert", { "train.tsv": GLUE, "dev.tsv": GLUE, "test.tsv": GLUE }, "1 dev 1, dev 1"],
  ])("is scored by studies where %s has one, read with a tokenizer of %s", async (task, tokenizer, files, expected) => {
    for (const [file, content] of Object.entries(files)) write(file, content);
    const { head: _head, ...options } = await optionsFor(task, path());
    const sizes: string[] = [];
    const choose: ChooseExamples = (part, examples) => {
      sizes.push(part === "train" ? String(examples.length) : `${part} ${examples.length}`);
      return examples;
    };
    const reading = { ...options, ...preprocessing(`test/interop-data/tokenizers/${tokenizer}`), choose };
    await readTask(task, reading);
    await readTask(task, { ...reading, evaluateOnly: true, evaluateOn: "test" });
    const [devSize, ...others] = sizes.filter((size) => size.includes(" "));
    const trainSize = sizes.filter((size) => !size.includes(" "));
    expect(`${trainSize.join()} ${devSize}, ${others.join()}`).toBe(expected);
  });

  it("needs a token that ends answers", async () => {
    write("train.jsonl", jsonl("a"));
    const { head: _head, ...options } = await optionsFor("chat", path());
    const reading = { ...options, ...preprocessing("test/interop-data/tokenizers/wordlevel") };
    expect((await failure(readTask("chat", reading))).fact).toMatch(/no file of the model names the token that ends/);
  });

  it("may be a folder of images, unless they have no classes", async () => {
    for (const name of ["train/cat/1.png", "train/dog/2.png", "val/cat/3.png", "test/dog/4.png"]) image(name);
    const evaluateOn = "test";
    const labelNames = ["cat", "dog"];
    const labelsOf = async (data: string) => {
      const { dev } = await readTask("images", {
        ...(await optionsFor("images", data)),
        evaluateOnly: true,
        labelNames,
        evaluateOn,
      });
      return [...dev!(1)].flatMap(({ labels }) => [...labels]);
    };
    expect(await labelsOf(path())).toEqual([1]);
    expect(await devLabels("images", path())).toEqual([0]);
    for (const name of ["tiny/train/cat/1.png", "tiny/train/dog/2.png", "tiny/val/cat/3.png", "tiny/test/images/4.png"])
      image(name);
    expect(await labelsOf(path("tiny"))).toEqual([0]);
  });
});

describe("a published split", () => {
  const MNLI = "index\tb\tc\td\te\tf\tg\th\tsentence1\tsentence2\tlabel1\tgold_label\n";
  const row = (label: string) => `0\tb\tc\td\te\tf\tg\th\tthe film\tis\tx\t${label}\n`;
  const labelsOf = (batches: Iterable<{ readonly labels: ArrayLike<number> }>) =>
    [...batches].flatMap(({ labels }) => Array.from(labels)).filter((label) => label !== IGNORED_LABEL);

  it("of MNLI decides by the mismatched dev set and tests on the matched one", async () => {
    write("train.tsv", MNLI + row("neutral"));
    write("dev_matched.tsv", MNLI + row("entailment"));
    write("dev_mismatched.tsv", MNLI + row("contradiction"));
    const options = await optionsFor("mnli", path());
    const { dev, moreDevSets } = await readTask("mnli", { ...options, split: "mismatched" });
    expect(labelsOf(dev!(1))).toEqual([2]);
    expect(labelsOf(moreDevSets!["test"]!.batches(1))).toEqual([0]);
    const asPublished = await readTask("mnli", options);
    expect(labelsOf(asPublished.dev!(1))).toEqual([0]);
    expect(Object.keys(asPublished.moreDevSets!)).toEqual(["mismatched"]);
  });

  it("of SQuAD scores both halves of the dev set", async () => {
    const question = (id: string) => ({ id, question: "is it", answers: [{ text: "film", answer_start: 4 }] });
    const file = (ids: readonly string[]) =>
      JSON.stringify({
        version: "1.1",
        data: [{ title: "t", paragraphs: [{ context: "the film", qas: ids.map(question) }] }],
      });
    write("train-v1.1.json", file(["1"]));
    write("dev-v1.1.json", file(["2", "3", "4"]));
    const options = await optionsFor("squad", path());
    const { dev, scorer, moreDevSets } = await readTask("squad", { ...options, split: "half-dev" });
    const count = (batches: Iterable<{ readonly rows: number }>) =>
      [...batches].reduce((sum, { rows }) => sum + rows, 0);
    expect([count(dev!(2)), count(moreDevSets!["test"]!.batches(2))]).toEqual([1, 2]);
    expect(scorer && moreDevSets!["test"]!.scorer, "scorers of both").toBeDefined();
  });

  it("is refused for tasks that have none", async () => {
    const options = { ...(await optionsFor("cola", path())), split: "half-dev" as const };
    expect((await failure(readTask("lm", options))).fact).toMatch(/--split half-dev cannot be used for lm/);
    const mismatched = { ...options, split: "mismatched" as const };
    expect((await failure(readTask("cola", mismatched))).fact).toMatch(/--split mismatched cannot be used for cola/);
  });
});

describe("evaluation on another corpus", () => {
  const NLI = "index\tsentence1\tsentence2\tlabel\n0\tthe film\tis\tnot_entailment\n1\tfilm\tboring\tentailment\n";
  const QNLI = NLI.replace("sentence1\tsentence2", "question\tsentence");

  it("matches classes by name, in a folder or a file", async () => {
    for (const name of ["a/train/cat/1.png", "a/train/dog/2.png", "a/train/fox/3.png"]) image(name);
    for (const name of ["b/test/fox/1.png", "b/test/cat/2.png"]) image(name);
    const { head, ...options } = await optionsFor("images", path("a"));
    const data = await readTask("images", options);
    const { dev } = await readEvaluation("images", { ...options, path: path("b") }, { head, data });
    expect([...dev!(2)].flatMap(({ labels }) => [...labels])).toEqual([0, 2]);

    write("train.tsv", QNLI);
    write("other/dev.tsv", NLI);
    const qnli = await optionsFor("qnli", path());
    const trained = { head: qnli.head, data: await readTask("qnli", qnli) };
    expect(trained.data.dev).toBeUndefined();
    for (const where of [path("other"), path("other", "dev.tsv")]) {
      const rte = await readEvaluation("rte", { ...qnli, path: where }, trained);
      expect(
        [...rte.dev!(2)].flatMap(({ labels }) => [...labels]),
        where,
      ).toEqual([1, 0]);
    }
  });

  it("refuses classes that the model is not trained on, other heads, and a folder without a dev set", async () => {
    const mnliHeader = "index\tb\tc\td\te\tf\tg\th\tsentence1\tsentence2\tlabel1\tgold_label";
    write("train.tsv", `${mnliHeader}\n0\tb\tc\td\te\tf\tg\th\tthe film\tis\tx\tneutral\n`);
    write("dev.tsv", NLI);
    const { head, ...mnli } = await optionsFor("mnli", path());
    const trained = { head, data: await readTask("mnli", mnli) };
    const refused = async (task: string, where = path()) =>
      failure(readEvaluation(task, { ...mnli, path: where }, trained));
    expect((await refused("rte")).message).toMatch(/class not_entailment.*\n.*entailment, neutral, contradiction/);
    expect((await refused("stsb")).fact).toMatch(/--eval-task stsb needs a model for regression/);
    mkdirSync(path("empty"));
    expect((await refused("rte", path("empty"))).message).toMatch(/no data to evaluate on\n.*add dev\.tsv/);
  });
});

describe("GLUE's metrics", () => {
  it.each(["mrpc", "qqp"])("of %s are accuracy and F1", async (task) => {
    const result: Pick<Evaluation, "predictions" | "labels" | "loss" | "count"> = {
      predictions: [1, 1, 1, 0],
      labels: [1, 0, 1, 1],
      loss: 0.5,
      count: 4,
    };
    // Evaluation calls nothing else of a trainer.
    const trainer = { evaluate: () => Promise.resolve(result) } as unknown as Trainer;
    const data = {
      train: () => ({
        perEpoch: 1,
        next: () => {
          throw new Error();
        },
      }),
      dev: () => [],
      truncated: 0,
    };
    // 2 of 4 are right; 2 true positives, 1 false positive, 1 false negative.
    const metrics = await evaluateTask(trainer, task, data, 1);
    expect(metrics).toEqual({ accuracy: 0.5, f1: 2 / 3, loss: 0.5 });
    expect(Object.keys(metrics)[0], "what selects the best evaluation").toBe("accuracy");
    const withTest = await evaluateTask(trainer, task, { ...data, moreDevSets: { test: { batches: () => [] } } }, 1);
    expect(withTest).toEqual({ ...metrics, accuracy_test: 0.5, f1_test: 2 / 3, loss_test: 0.5 });
  });
});
