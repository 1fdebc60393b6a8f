import { describe, expect, test } from "vitest";
import { Batches, groupByLength, makeBatch, packSamples } from "safetape/data";
import { DataError } from "safetape/engine";
import type { Sample } from "safetape";
import { Random } from "../../src/base/random";
import { batchInputs, classLabels, countedLabels } from "../../src/train/plans/inputs";
import { createModel } from "../../src/model/families";
import { IGNORED_LABEL } from "../../src/data/sample";
import { tiny, tinySamples } from "../support/tiny";
import EXPECTED from "../interop/packing.json";

/** Texts of these lengths, all of whose tokens have the number of the text. */
const texts = (...lengths: number[]): Sample[] =>
  lengths.map((length, i) => {
    const ids = new Int32Array(length).fill(i + 1);
    return { ids, label: ids };
  });

const lengthsOf = ({ segments }: Sample): number[] =>
  [...new Set(segments)].map((text) => segments!.filter((own) => own === text).length);

describe("packed rows", () => {
  test("are filled by best-fit decreasing: the longest first, each where the least room is left", () => {
    const rows = packSamples(texts(3, 6, 2, 7, 1, 4), 10);
    expect(rows.map(lengthsOf)).toEqual([
      [7, 3],
      [6, 4],
      [2, 1],
    ]);
    expect(rows.map(({ ids }) => [...new Set(ids)])).toEqual([
      [4, 1],
      [2, 6],
      [3, 5],
    ]);
    expect([...rows[0]!.segments!]).toEqual([1, 1, 1, 1, 1, 1, 1, 2, 2, 2]);
  });

  test("have every text once and whole, with its labels and types, and take few more rows than fit", () => {
    const random = new Random(7);
    const samples = Array.from({ length: 400 }, (): Sample => {
      const ids = Int32Array.from({ length: 1 + random.below(60) }, () => random.below(1000));
      return { ids, label: ids.map((id) => (id % 2 === 0 ? id : IGNORED_LABEL)), typeIds: ids.map((id) => id % 3) };
    });
    const rows = packSamples(samples, 64);
    const written = ({ ids, label, typeIds }: Sample) =>
      JSON.stringify([ids, label, typeIds].map((all) => [all].flat()));
    const partsOf = ({ ids, label, typeIds, segments }: Sample): Sample[] =>
      [...new Set(segments)].map((text) => {
        const own = (all: Int32Array): Int32Array => all.filter((_, i) => segments![i] === text);
        if (typeof label === "number") throw new Error("a row has one label");
        return { ids: own(ids), label: own(label), typeIds: own(typeIds!) };
      });
    expect(rows.flatMap(partsOf).map(written).sort()).toEqual(samples.map(written).sort());
    expect(Math.max(...rows.map(({ ids }) => ids.length))).toBeLessThanOrEqual(64);
    const tokens = samples.reduce((sum, { ids }) => sum + ids.length, 0);
    expect(rows.length).toBeLessThanOrEqual(Math.ceil((1.03 * tokens) / 64));
    expect(packSamples(samples, 64), "the same rows every time").toEqual(rows);
  });

  test.each<[string, Sample[], RegExp]>([
    ["a text longer than a row", texts(3, 11), /sample 2 has 11 tokens, but rows have 1 to 10/],
    ["no tokens", texts(0), /sample 1 has 0 tokens/],
    ["a class", [{ ids: Int32Array.of(1), label: 0 }], /sample 1 is not one text with a label for each token/],
    ["packed rows", packSamples(texts(1, 2), 4), /sample 1 is not one text/],
  ])("refuse %s", (_, samples, message) => {
    expect(() => packSamples(samples, 10)).toThrow(DataError);
    expect(() => packSamples(samples, 10)).toThrow(message);
  });

  test("make batches whose mask numbers the texts, whose positions begin anew, and whose texts do not predict each other", () => {
    const model = createModel(tiny.llama());
    const rows = packSamples(texts(3, 2, 4), 5);
    const batch = makeBatch(rows, { size: 3, length: 6, padId: 0, labels: "token" });
    expect(batch.isPacked).toBe(true);
    const rowsOf = (values: ArrayLike<number>) => [0, 6, 12].map((at) => Array.from(values).slice(at, at + 6));
    expect(rowsOf(batch.attentionMask)).toEqual([
      [1, 1, 1, 1, 0, 0],
      [1, 1, 1, 2, 2, 0],
      [1, 0, 0, 0, 0, 0],
    ]);
    expect(rowsOf(classLabels(model, batch))).toEqual([
      [3, 3, 3, -100, -100, -100],
      [1, 1, -100, 2, -100, -100],
      [-100, -100, -100, -100, -100, -100],
    ]);
    const { positions } = batchInputs(model, batch);
    // What positions padding has does not matter.
    expect(rowsOf(positions as Int32Array)[1]).toEqual([0, 1, 2, 0, 1, 0]);
    expect(countedLabels(model, batch)).toBe(6);
  });

  test("come in an order of the seed, and resume in it", () => {
    const rows = packSamples(tinySamples(40, { areTokens: true }), 32);
    const options = { size: 2, labels: "token", maxLength: 32, multiple: 32, seed: 4 } as const;
    const [run, resumed] = [new Batches(rows, options), new Batches(rows, options)];
    const first = run.next();
    resumed.resume(JSON.parse(JSON.stringify(run.save())));
    expect(resumed.next()).toEqual(run.next());
    expect(first.isPacked).toBe(true);
    expect([first.size, first.length]).toEqual([2, 32]);
    expect(new Batches(rows, options).next()).toEqual(first);
    expect(new Batches(rows, { ...options, seed: 5 }).next()).not.toEqual(first);
  });
});

describe("batches by length", () => {
  test.each(EXPECTED.groups)("of $size rows have transformers' order", ({ size, lengths, order, grouped }) => {
    expect([...groupByLength(Uint32Array.from(order), texts(...lengths), size)]).toEqual(grouped);
  });

  test("have every text once an epoch, less padding, and another order for each epoch and seed", () => {
    const samples = tinySamples(90, { longest: 40 });
    const epochOf = (options: Partial<ConstructorParameters<typeof Batches>[1]>) => {
      const batches = new Batches(samples, { size: 4, multiple: 1, ...options });
      return [[...batches.restOfEpoch()], [...batches.restOfEpoch()]] as const;
    };
    const idsOf = (batches: readonly { readonly ids?: Int32Array }[]) => batches.flatMap(({ ids }) => [...ids!]);
    const [first, second] = epochOf({ shuffle: groupByLength });
    expect(idsOf(first).sort((a, b) => a - b)).toEqual(samples.map((_, i) => i));
    expect(idsOf(second)).not.toEqual(idsOf(first));
    expect(idsOf(epochOf({ shuffle: groupByLength })[1])).toEqual(idsOf(second));
    expect(idsOf(epochOf({ shuffle: groupByLength, seed: 1 })[0])).not.toEqual(idsOf(first));
    const padded = (batches: readonly { readonly size: number; readonly length: number }[]) =>
      batches.reduce((sum, { size, length }) => sum + size * length, 0);
    expect(padded(first)).toBeLessThan(0.8 * padded(epochOf({})[0]));
    expect(first[0]!.length, "the longest text is in the first batch").toBe(
      Math.max(...samples.map(({ ids }) => ids.length)),
    );
  });
});
