import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DataError } from "../../src/base/errors";
import { bucketLength, makeBatch } from "../../src/data/batch";
import type { LabelKind } from "../../src/data/batch";
import { Batches } from "../../src/data/batches";
import type { BatchOptions } from "../../src/data/batches";
import { cutBlocks, readBlocks } from "../../src/data/lines";
import { blockSamples, encodeExamples, IGNORED_LABEL } from "../../src/data/sample";
import type { Sample } from "../../src/data/sample";
import { loadTokenizer } from "../../src/data/tokenizer";
import { memoryDirectory } from "../../src/io/directory";
import { openDirectory } from "../../src/node/directory";
import { parseJson } from "../support/json";

const DATA = fileURLToPath(new URL("../interop-data/tokenizers/", import.meta.url));
const tokenizer = openDirectory(join(DATA, "bert")).then(loadTokenizer);

/** Samples of these lengths; all ids of sample i are i + 10. */
function samples(...lengths: number[]): Sample[] {
  return lengths.map((length, index) => ({ ids: new Int32Array(length).fill(index + 10), label: index }));
}

/** The labels of the samples that are left in an epoch, in order. */
function epochLabels(batches: Batches): number[] {
  return [...batches.restOfEpoch()].flatMap((batch) => [...batch.labels].filter((label) => label !== IGNORED_LABEL));
}

describe("makeBatch", () => {
  test("pads ids and types on the right", () => {
    const batch = makeBatch(
      [
        { ids: Int32Array.of(5, 6, 7), typeIds: Int32Array.of(0, 1, 1), label: 1 },
        { ids: Int32Array.of(8), label: 0 },
      ],
      { size: 2, length: 4, padId: 9, labels: "class" },
    );
    expect(batch).toEqual({
      size: 2,
      length: 4,
      rows: 2,
      inputIds: Int32Array.of(5, 6, 7, 9, 8, 9, 9, 9),
      attentionMask: Int32Array.of(1, 1, 1, 0, 1, 0, 0, 0),
      tokenTypeIds: Int32Array.of(0, 1, 1, 0, 0, 0, 0, 0),
      labels: Int32Array.of(1, 0),
    });
  });

  test("gives padding rows one position to attend to and no label that counts", () => {
    const batch = makeBatch(samples(2), { size: 3, length: 2, padId: 1, labels: "class" });
    expect(batch).toMatchObject({
      rows: 1,
      inputIds: Int32Array.of(10, 10, 1, 1, 1, 1),
      attentionMask: Int32Array.of(1, 1, 1, 0, 1, 0),
      labels: Int32Array.of(0, IGNORED_LABEL, IGNORED_LABEL),
    });
  });

  test("gives the padding of a language model labels that do not count", () => {
    const [sample] = blockSamples([Int32Array.of(4, 5)]);
    const batch = makeBatch([sample!], { size: 2, length: 3, padId: 0, labels: "token" });
    expect([...batch.labels]).toEqual([4, 5, -100, -100, -100, -100]);
  });

  test("keeps values as floats", () => {
    const batch = makeBatch([{ ids: Int32Array.of(1), label: 3.25 }], {
      size: 1,
      length: 1,
      padId: 0,
      labels: "value",
    });
    expect(batch.labels).toEqual(Float32Array.of(3.25));
  });

  test("gives an answer two labels in each row", () => {
    const answer = { ids: Int32Array.of(4, 5, 6), label: Int32Array.of(1, 2) };
    const none = { ids: Int32Array.of(4), label: Int32Array.of(IGNORED_LABEL, IGNORED_LABEL) };
    const batch = makeBatch([answer, none], { size: 3, length: 3, padId: 0, labels: "span" });
    expect([...batch.labels]).toEqual([1, 2, -100, -100, -100, -100]);
  });

  test.each<[string, Sample[], LabelKind, RegExp]>([
    ["a sample that is too long", samples(4), "class", /4 tokens, but rows have 1 to 3/],
    ["a sample without tokens", samples(0), "class", /0 tokens/],
    ["too many samples", samples(1, 1, 1), "class", /3 samples for 2 rows/],
    ["one label where each token needs one", samples(2), "token", /one label for the row in a batch of token labels/],
    [
      "a label for each token where the row needs one",
      blockSamples([Int32Array.of(1)]),
      "class",
      /1 labels for 1 tokens/,
    ],
    ["half an answer", [{ ids: Int32Array.of(1, 2), label: Int32Array.of(-100, 1) }], "span", /from token -100 to 1/],
    ["an answer of one label", [{ ids: Int32Array.of(1), label: Int32Array.of(0) }], "span", /1 labels for 1 tokens/],
    ["too few labels", [{ ids: Int32Array.of(1, 2), label: Int32Array.of(1) }], "token", /1 labels for 2 tokens/],
  ])("refuses %s", (_, list, labels, message) => {
    const make = (): unknown => makeBatch(list, { size: 2, length: 3, padId: 0, labels });
    expect(make).toThrow(DataError);
    expect(make).toThrow(message);
  });

  test("rounds lengths up to multiples, and to the maximum", () => {
    expect([1, 8, 9, 16, 17].map((length) => bucketLength(length, 17, 8))).toEqual([8, 8, 16, 16, 17]);
  });
});

describe("Batches", () => {
  const many = samples(...Array.from({ length: 23 }, (_, index) => 1 + ((index * 7) % 20)));

  test("an epoch has every sample once, in an order that changes with epoch and seed", () => {
    const labels = many.map((_, index) => index);
    const batches = new Batches(many, { size: 4, seed: 3 });
    const [first, second] = [epochLabels(batches), epochLabels(batches)];
    expect([...first].sort((a, b) => a - b)).toEqual(labels);
    expect([...second].sort((a, b) => a - b)).toEqual(labels);
    expect(second).not.toEqual(first);
    expect(first).not.toEqual(labels);
    expect(epochLabels(new Batches(many, { size: 4, seed: 3 }))).toEqual(first);
    expect(epochLabels(new Batches(many, { size: 4, seed: 4 }))).not.toEqual(first);
    expect(epochLabels(new Batches(many, { size: 4, shuffle: false }))).toEqual(labels);
  });

  test("labels stay with their tokens", () => {
    for (const batch of new Batches(many, { size: 4 }).restOfEpoch()) {
      for (let row = 0; row < batch.rows; row++)
        expect(batch.inputIds[row * batch.length]).toBe(batch.labels[row]! + 10);
    }
  });

  test("lengths are multiples of 8 up to the longest, and all batches have one size", () => {
    const batches = [...new Batches(many, { size: 4 }).restOfEpoch()];
    expect(new Set(batches.map(({ size }) => size))).toEqual(new Set([4]));
    for (const { length } of batches) expect([8, 16, 20]).toContain(length);
    const odd = new Batches(samples(17, 17), { size: 1, multiple: 64, maxLength: 33 }).next();
    expect(odd.length).toBe(33);
  });

  test.each<[BatchOptions["partial"], number[], number[]]>([
    ["pad", [4, 4, 4, 4, 4, 4], [4, 4, 4, 4, 4, 3]],
    ["keep", [4, 4, 4, 4, 4, 3], [4, 4, 4, 4, 4, 3]],
    ["drop", [4, 4, 4, 4, 4], [4, 4, 4, 4, 4]],
  ])("the last batch of an epoch follows the option `partial`: %s", (partial, sizes, rows) => {
    const batches = new Batches(many, { size: 4, ...(partial === undefined ? {} : { partial }) });
    const epoch = [...batches.restOfEpoch()];
    expect(batches.perEpoch).toBe(sizes.length);
    expect(epoch.map((batch) => batch.size)).toEqual(sizes);
    expect(epoch.map((batch) => batch.rows)).toEqual(rows);
  });

  test("the last batch of a regression is smaller, unless padding is chosen", () => {
    const size = (options: Partial<BatchOptions>): number =>
      [...new Batches(samples(1, 1, 1), { size: 2, labels: "value", ...options }).restOfEpoch()].at(-1)!.size;
    expect([size({}), size({ partial: "pad" })]).toEqual([1, 2]);
  });

  test("a source resumes at any batch with the batches that would have followed", () => {
    fc.assert(
      fc.property(fc.nat(30), fc.integer(), fc.constantFrom("pad", "keep", "drop"), (steps, seed, partial) => {
        const options: BatchOptions = { size: 4, seed, partial };
        const run = new Batches(many, options);
        for (let i = 0; i < steps; i++) run.next();
        const state = parseJson<ReturnType<Batches["save"]>>(JSON.stringify(run.save()));
        const resumed = new Batches(many, options);
        resumed.next();
        resumed.resume(state);
        expect([resumed.epoch, resumed.position]).toEqual([run.epoch, run.position]);
        for (let i = 0; i < 8; i++) expect(resumed.next()).toEqual(run.next());
      }),
      { numRuns: 60 },
    );
  });

  test("an epoch that was interrupted continues where it was", () => {
    const batches = new Batches(many, { size: 4 });
    const expected = epochLabels(new Batches(many, { size: 4 }));
    for (const batch of batches.restOfEpoch()) {
      expect(batches.position).toBe(1);
      expect([...batch.labels]).toEqual(expected.slice(0, 4));
      break;
    }
    expect(epochLabels(batches)).toEqual(expected.slice(4));
    expect([batches.epoch, batches.position]).toEqual([1, 0]);
  });

  test.each([
    ["other data", { samples: 22 }, /resume with samples 23: it was 22/],
    ["another batch size", { size: 8 }, /resume with size 4: it was 8/],
    ["another seed", { seed: 1 }, /resume with seed 0: it was 1/],
    ["a batch beyond the epoch", { position: 6 }, /there is no batch 6 of epoch 0/],
    ["half a batch", { position: 0.5 }, /there is no batch/],
    ["a negative epoch", { epoch: -1 }, /there is no batch/],
  ])("refuses to resume with %s", (_, change, message) => {
    const batches = new Batches(many, { size: 4 });
    expect(() => batches.resume({ ...batches.save(), ...change })).toThrow(DataError);
    expect(() => batches.resume({ ...batches.save(), ...change })).toThrow(message);
  });

  test.each<[string, Sample[], BatchOptions, RegExp]>([
    ["no samples", [], { size: 4 }, /maxLength 0|no batch/],
    ["batches of 0", many, { size: 0 }, /the size 0/],
    ["batches of half a row", many, { size: 1.5 }, /the size 1.5/],
    ["a sample beyond the longest row", many, { size: 4, maxLength: 5 }, /sample 2 has 8 tokens, but rows have 1 to 5/],
    [
      "too few samples where partial batches are dropped",
      samples(1),
      { size: 4, partial: "drop" },
      /1 samples do not make a batch/,
    ],
  ])("refuses %s", (_, list, options, message) => {
    expect(() => new Batches(list, options)).toThrow(DataError);
    expect(() => new Batches(list, options)).toThrow(message);
  });
});

describe("encodeExamples", () => {
  test("keeps order, pairs and labels, and counts truncated examples", async () => {
    const examples = [
      { text: "never", pair: "boring", label: 1 },
      { text: "an unforgettable story of two brothers and a film", label: 0 },
    ];
    const { samples: encoded, truncated } = encodeExamples(examples, await tokenizer, { maxLength: 8, classes: 2 });
    expect(truncated).toBe(1);
    expect(encoded.map(({ ids, label }) => [ids.length, label])).toEqual([
      [5, 1],
      [8, 0],
    ]);
    expect([...encoded[0]!.typeIds!]).toEqual([0, 0, 0, 1, 1]);
  });

  test("gives the labels of test files the ignored label, and keeps values", async () => {
    const label = async (value: number, classes?: number) =>
      encodeExamples([{ text: "never", label: value }], await tokenizer, classes === undefined ? {} : { classes })
        .samples[0]!.label;
    expect([await label(-1, 2), await label(3.25)]).toEqual([IGNORED_LABEL, 3.25]);
  });

  test("refuses ids and labels that the model does not have, with the number of the example", async () => {
    const loaded = await tokenizer;
    const encode = (label: number, options: object) => () =>
      encodeExamples(
        [
          { text: "never", label: 0 },
          { text: "boring", label },
        ],
        loaded,
        options,
      );
    expect(encode(2, { classes: 2 })).toThrow(/example 2 has the label 2, but the model has 2 classes/);
    expect(encode(0.5, { classes: 2 })).toThrow(DataError);
    expect(encode(0, { vocabularySize: 100 })).toThrow(
      /example 1 has the token id \d+, but the model knows ids below 100/,
    );
    expect(encode(0, { maxLength: 2, tooLong: "throw" })).toThrow(/3 tokens, more than the 2 allowed/);
  });

  test("refuses an example without tokens", async () => {
    const gpt2 = await loadTokenizer(await openDirectory(join(DATA, "gpt2")));
    expect(() => encodeExamples([{ text: "", label: 0 }], gpt2)).toThrow(/example 1 has no tokens/);
  });
});

describe("blocks of text", () => {
  test("are lines that are joined, tokenised as one text and cut, without the remainder", async () => {
    const loaded = await loadTokenizer(await openDirectory(join(DATA, "gpt2")));
    const text = "the film is boring\r\n\r\nthe acting is wooden\nnever once believable\n";
    const directory = memoryDirectory("text", { "train.txt": new TextEncoder().encode(text) });
    const blocks = await readBlocks(directory, "train.txt", loaded, { length: 4 });
    const joined = "the film is boring\n\nthe acting is wooden\n\nnever once believable";
    const ids = [...loaded.encode(joined).ids];
    expect(blocks.flatMap((block) => [...block])).toEqual(ids.slice(0, ids.length - (ids.length % 4)));
    expect(ids.length % 4, "tokens of the remainder").not.toBe(0);
    await expect(readBlocks(directory, "train.txt", loaded, { length: 1000 })).rejects.toThrow(
      /train.txt in text has \d+ tokens, fewer than one block of 1000/,
    );
  });

  test("of WikiText keep line ends, with blank lines as empty texts, as Hugging Face joins them", async () => {
    const loaded = await loadTokenizer(await openDirectory(join(DATA, "gpt2")));
    const text = " \n = the film = \n \n never once \n";
    const directory = memoryDirectory("text", { "wiki.train.raw": new TextEncoder().encode(text) });
    const blocks = await readBlocks(directory, "wiki.train.raw", loaded, { length: 1, asWikiText: true });
    // "\n\n".join(["", " = the film = \n", "", " never once \n"])
    const joined = "\n\n = the film = \n\n\n\n\n never once \n";
    expect(blocks.flatMap((block) => [...block])).toEqual([...loaded.encode(joined).ids]);
  });

  test("have the length that cutBlocks is given", () => {
    expect(cutBlocks(Int32Array.of(1, 2, 3, 4, 5), 2, "x")).toEqual([Int32Array.of(1, 2), Int32Array.of(3, 4)]);
    expect(() => cutBlocks(Int32Array.of(1), 0, "x")).toThrow(DataError);
  });
});
