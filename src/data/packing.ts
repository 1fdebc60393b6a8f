import { DataError } from "../base/errors";
import type { Sample } from "./sample";

/**
 * Packs the texts of a language model into rows of at most `maxLength` tokens, each text whole, and marks in `segments` which tokens
 * are whose: attention stays in a text, positions begin anew with it, and no text predicts the next. Rows are filled by best-fit
 * decreasing (Johnson 1974), as with TRL's `packing_strategy="bfd"`: the longest text first, each into the row with the least room
 * that suffices.
 * @throws DataError for a text that is longer than a row, and for labels that are not those of tokens.
 */
export function packSamples(samples: readonly Sample[], maxLength: number): Sample[] {
  for (const [i, { ids, label, segments }] of samples.entries()) {
    const isText = typeof label !== "number" && label.length === ids.length && segments === undefined;
    if (isText && ids.length > 0 && ids.length <= maxLength) continue;
    throw new DataError(
      isText
        ? `sample ${i + 1} has ${ids.length} tokens, but rows have 1 to ${maxLength}`
        : `sample ${i + 1} is not one text with a label for each token`,
      isText
        ? "truncate longer texts when they are encoded, and leave out empty ones"
        : "pack texts of a language model",
    );
  }
  const rows: Sample[][] = [];
  /** By the tokens for which they have room: rows, the first that had it first. */
  const withRoom = Array.from({ length: maxLength + 1 }, (): Sample[][] => []);
  for (const sample of [...samples].sort((a, b) => b.ids.length - a.ids.length)) {
    const { length } = sample.ids;
    let room = length;
    while (room < maxLength && withRoom[room]!.length === 0) room++;
    const row = withRoom[room]!.shift() ?? [];
    if (row.length === 0) rows.push(row);
    row.push(sample);
    withRoom[room - length]!.push(row);
  }
  return rows.map(packed);
}

/** Texts as one row. */
function packed(texts: readonly Sample[]): Sample {
  const joined = (of: (text: Sample, number: number) => Int32Array): Int32Array =>
    Int32Array.from(texts.flatMap((text, i) => [...of(text, i + 1)]));
  const alike = ({ ids }: Sample): readonly number[] => Array.from(ids, () => 1);
  return {
    ids: joined(({ ids }) => ids),
    segments: joined(({ ids }, number) => ids.map(() => number)),
    label: joined(({ label }) => (typeof label === "number" ? Int32Array.of(label) : label)),
    ...(texts.some(({ typeIds }) => typeIds) && {
      typeIds: joined(({ ids, typeIds }) => ids.map((_, at) => typeIds?.[at] ?? 0)),
    }),
    ...(texts.some(({ weights }) => weights) && {
      weights: Float32Array.from(texts.flatMap((text) => [...(text.weights ?? alike(text))])),
    }),
  };
}

/** Batches of which the longest texts of the epoch are sorted together. */
const MOST_BATCHES = 50;

/**
 * Puts texts of similar length into the same batch, which then has little padding: `new Batches(samples, { size, shuffle:
 * groupByLength })`. As transformers' `group_by_length`: of a random order, runs of 50 batches, or a quarter of the epoch where that
 * is less, are sorted from long to short, and the longest text of all comes first, so that memory runs out at once or never.
 * @param size rows of a batch, or of all batches of a step.
 */
export function groupByLength(order: Uint32Array, samples: readonly Sample[], size: number): Uint32Array {
  const run = size * Math.max(1, Math.min(MOST_BATCHES, Math.floor(order.length / (4 * size))));
  const lengthAt = (at: number): number => samples[grouped[at]!]!.ids.length;
  const grouped = Uint32Array.from(order);
  let longest = 0;
  for (let start = 0; start < grouped.length; start += run) {
    grouped.subarray(start, start + run).sort((a, b) => samples[b]!.ids.length - samples[a]!.ids.length);
    if (lengthAt(start) > lengthAt(longest)) longest = start;
  }
  [grouped[0], grouped[longest]] = [grouped[longest]!, grouped[0]!];
  return grouped;
}
