import { PreferenceBatches, withReference } from "safetape/preference";
import type { PreferencePair, ReferencedPair } from "safetape/preference";
import type { LoadedModel, Sample } from "safetape";
import { Random } from "../../src/base/random";

/** A sample that is labelled on its answer alone. */
export function answerSample(prompt: readonly number[], answer: readonly number[]): Sample {
  const label = [...prompt.map(() => -100), ...answer];
  return { ids: Int32Array.of(...prompt, ...answer), label: Int32Array.from(label) };
}

/** Pairs of answers of random length and content, for tiny models. */
export function tinyPairs(count: number, seed = 1): PreferencePair[] {
  const random = new Random(seed);
  const draw = (least: number): number[] => Array.from({ length: least + random.below(4) }, () => 2 + random.below(48));
  return Array.from({ length: count }, () => {
    const prompt = draw(1);
    return { chosen: answerSample(prompt, draw(2)), rejected: answerSample(prompt, draw(2)) };
  });
}

/** Batches of `size` pairs in order, all of one length. */
export const pairBatches = (pairs: readonly ReferencedPair[], size: number): PreferenceBatches =>
  new PreferenceBatches(pairs, { size, shuffle: false, maxLength: 16, multiple: 16 });

/** Five referenced pairs in batches of three: the last batch has a pair of padding. */
export const tinyPreferences = async (model: LoadedModel): Promise<PreferenceBatches> =>
  pairBatches(await withReference(model, tinyPairs(5)), 3);
