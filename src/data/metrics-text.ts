import { DataError } from "../base/errors";
import { porterStem } from "./porter";

/** A generated text and the references to compare it with. */
export interface Generated {
  readonly text: string;
  readonly references: readonly string[];
}

type Counts = ReadonlyMap<string, number>;

/** Tokens of mteval-v13a in lower case: punctuation is separated, except within numbers. */
export function mtevalTokens(text: string): string[] {
  const spaced = ` ${text.toLowerCase()} `
    .replace(/([{-~[-` -&(-+:-@/])/g, " $1 ")
    .replace(/([^0-9])([.,])/g, "$1 $2 ")
    .replace(/([.,])([^0-9])/g, " $1 $2")
    .replace(/([0-9])(-)/g, "$1 $2 ");
  return spaced.split(/\s+/).filter(Boolean);
}

/** Words in lower case without punctuation, which CIDEr, ROUGE-L and METEOR compare. */
export function plainTokens(text: string): string[] {
  return text.toLowerCase().match(/[\p{L}\p{N}]+(?:['’][\p{L}]+)?/gu) ?? [];
}

/** Counts of a text's n-grams. */
function ngrams(tokens: readonly string[], n: number): Map<string, number> {
  const counts = new Map<string, number>();
  for (let i = 0; i + n <= tokens.length; i++) {
    const gram = tokens.slice(i, i + n).join("\u0001");
    counts.set(gram, (counts.get(gram) ?? 0) + 1);
  }
  return counts;
}

/** The largest count of each n-gram. */
function maxCounts(all: readonly Counts[]): Map<string, number> {
  const result = new Map<string, number>();
  for (const counts of all) {
    for (const [gram, count] of counts) result.set(gram, Math.max(count, result.get(gram) ?? 0));
  }
  return result;
}

const sum = (values: Iterable<number>): number => [...values].reduce((total, value) => total + value, 0);

/** The mean of a list that is not empty. */
export const mean = (values: readonly number[]): number => sum(values) / values.length;

/** @throws DataError for no texts, and for a text without references. */
export function checkItems(items: readonly Generated[]): void {
  const bad = items.findIndex(({ references }) => references.length === 0);
  if (items.length > 0 && bad < 0) return;
  const fact = items.length === 0 ? "no texts are scored" : `text ${bad + 1} has no reference`;
  throw new DataError(fact, "give at least one text, each with a reference");
}

/**
 * BLEU-4 of a corpus (Papineni et al. 2002), from 0 to 1, as the E2E challenge computes it: counts are clipped by the largest
 * one of any reference, the reference length is the closest one (of two equally close, the shorter), and a precision of 0
 * becomes 1e-15.
 * @throws DataError for nothing to score.
 */
export function bleu(items: readonly Generated[]): number {
  checkItems(items);
  const [matched, total] = [
    [0, 0, 0, 0],
    [0, 0, 0, 0],
  ];
  let [length, referenceLength] = [0, 0];
  for (const { text, references } of items) {
    const tokens = mtevalTokens(text);
    const referenceTokens = references.map(mtevalTokens);
    length += tokens.length;
    const lengths = referenceTokens.map((reference) => reference.length);
    referenceLength += lengths.reduce((best, next) => {
      const [a, b] = [Math.abs(next - tokens.length), Math.abs(best - tokens.length)];
      return a < b || (a === b && next < best) ? next : best;
    });
    for (let n = 1; n <= 4; n++) {
      const limits = maxCounts(referenceTokens.map((reference) => ngrams(reference, n)));
      const counts = ngrams(tokens, n);
      matched[n - 1]! += sum([...counts].map(([gram, count]) => Math.min(count, limits.get(gram) ?? 0)));
      total[n - 1]! += sum(counts.values());
    }
  }
  const logs = matched.map((count, i) => Math.log(count > 0 && total[i]! > 0 ? count / total[i]! : 1e-15));
  const penalty = length <= referenceLength ? Math.exp(1 - referenceLength / Math.max(1, length)) : 1;
  return penalty * Math.exp(sum(logs) / 4);
}

/**
 * NIST-5 of a corpus (Doddington 2002): n-grams are weighted by their information, log2(count of the prefix / count of the
 * n-gram) over all references, and texts shorter than the average reference are penalised.
 * @throws DataError for nothing to score.
 */
export function nist(items: readonly Generated[]): number {
  checkItems(items);
  const orders = 5;
  const references = items.map((item) => item.references.map(mtevalTokens));
  const counts = Array.from({ length: orders + 1 }, () => new Map<string, number>());
  for (const tokens of references.flat()) {
    counts[0]!.set("", (counts[0]!.get("") ?? 0) + tokens.length);
    for (let n = 1; n <= orders; n++) {
      for (const [gram, count] of ngrams(tokens, n)) counts[n]!.set(gram, (counts[n]!.get(gram) ?? 0) + count);
    }
  }
  const information = (gram: string, n: number): number => {
    const prefix = n === 1 ? "" : gram.slice(0, gram.lastIndexOf("\u0001"));
    return Math.log2((counts[n - 1]!.get(prefix) ?? 0) / (counts[n]!.get(gram) ?? Infinity));
  };
  const [matched, total] = [Array<number>(orders).fill(0), Array<number>(orders).fill(0)];
  let [length, average] = [0, 0];
  items.forEach(({ text }, i) => {
    const tokens = mtevalTokens(text);
    const referenceTokens = references[i]!;
    length += tokens.length;
    average += sum(referenceTokens.map((reference) => reference.length)) / referenceTokens.length;
    for (let n = 1; n <= orders; n++) {
      const limits = maxCounts(referenceTokens.map((reference) => ngrams(reference, n)));
      for (const [gram, count] of ngrams(tokens, n)) {
        const hits = Math.min(count, limits.get(gram) ?? 0);
        if (hits > 0) matched[n - 1]! += hits * information(gram, n);
        total[n - 1]! += count;
      }
    }
  });
  const beta = Math.LN2 / Math.log(1.5) ** 2;
  const ratio = Math.min(1, length / average);
  const penalty = ratio > 0 ? Math.exp(-beta * Math.log(ratio) ** 2) : 0;
  return penalty * sum(matched.map((value, i) => (total[i]! > 0 ? value / total[i]! : 0)));
}

/** Length of the longest common subsequence. */
function longestCommonSubsequence(a: readonly string[], b: readonly string[]): number {
  let row = new Uint32Array(b.length + 1);
  for (const token of a) {
    const next = new Uint32Array(b.length + 1);
    b.forEach((other, j) => {
      next[j + 1] = token === other ? row[j]! + 1 : Math.max(row[j + 1]!, next[j]!);
    });
    row = next;
  }
  return row[b.length]!;
}

/**
 * ROUGE-L (Lin 2004), from 0 to 1, as the COCO and E2E evaluations compute it: recall and precision are each those with the
 * best reference, beta is 1.2, and scores are averaged over texts.
 * @throws DataError for nothing to score.
 */
export function rougeL(items: readonly Generated[]): number {
  checkItems(items);
  const beta = 1.2 ** 2;
  const scores = items.map(({ text, references }) => {
    const tokens = plainTokens(text);
    const referenceTokens = references.map(plainTokens);
    const common = referenceTokens.map((reference) => longestCommonSubsequence(tokens, reference));
    const precision = Math.max(...common.map((length) => length / Math.max(1, tokens.length)));
    const recall = Math.max(...common.map((length, i) => length / Math.max(1, referenceTokens[i]!.length)));
    return precision > 0 && recall > 0 ? ((1 + beta) * precision * recall) / (recall + beta * precision) : 0;
  });
  return mean(scores);
}

/** F1 scores of ROUGE, from 0 to 1. */
export interface Rouge {
  readonly rouge1: number;
  readonly rouge2: number;
  readonly rougeL: number;
}

/**
 * ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004) as Google's `rouge_score`, and with it Hugging Face's `evaluate`, compute them: F1 of
 * unigrams, of bigrams and of the longest common subsequence, each with the best reference, averaged over texts. `evaluate`
 * reports the median of resampled means, which is this mean up to the noise of its resampling.
 * @param options.stem whether words of more than three letters are stemmed by NLTK's Porter stemmer. Default false.
 * @throws DataError for nothing to score.
 */
export function rouge(items: readonly Generated[], { stem = false }: { readonly stem?: boolean } = {}): Rouge {
  checkItems(items);
  const tokens = (text: string): string[] => {
    const words = text.toLowerCase().match(/[a-z0-9]+/g) ?? [];
    return stem ? words.map((word) => (word.length > 3 ? porterStem(word) : word)) : words;
  };
  const tokenised = items.map(({ text, references }) => ({ text: tokens(text), references: references.map(tokens) }));
  const score = (common: (a: readonly string[], b: readonly string[]) => number, n: number): number =>
    mean(
      tokenised.map(({ text, references }) =>
        Math.max(
          ...references.map((reference) => {
            const size = Math.max(0, text.length - n + 1) + Math.max(0, reference.length - n + 1);
            // 2 P R / (P + R) with P = common / size of the text, R = common / size of the reference.
            return size > 0 ? (2 * common(text, reference)) / size : 0;
          }),
        ),
      ),
    );
  return {
    rouge1: score((a, b) => commonNgrams(a, b, 1), 1),
    rouge2: score((a, b) => commonNgrams(a, b, 2), 2),
    rougeL: score(longestCommonSubsequence, 1),
  };
}

/** Number of n-grams that two texts have in common, each as often as both have it. */
function commonNgrams(a: readonly string[], b: readonly string[], n: number): number {
  const counts = ngrams(b, n);
  return sum([...ngrams(a, n)].map(([gram, count]) => Math.min(count, counts.get(gram) ?? 0)));
}

/**
 * CIDEr-D (Vedantam et al. 2015, section 4) as the COCO and E2E evaluations compute it: clipped cosines of tf-idf vectors of
 * 1- to 4-grams, with document frequencies over the references of a text, and a Gaussian penalty (sigma 6) for a different
 * number of bigrams; averaged over n and references, times 10.
 * @throws DataError for nothing to score.
 */
export function cider(items: readonly Generated[]): number {
  checkItems(items);
  const grams = (text: string): Map<string, number>[] => {
    const tokens = plainTokens(text);
    return [1, 2, 3, 4].map((n) => ngrams(tokens, n));
  };
  const references = items.map((item) => item.references.map(grams));
  const documents = new Map<string, number>();
  for (const perText of references) {
    for (const gram of new Set(perText.flatMap((orders) => orders.flatMap((counts) => [...counts.keys()])))) {
      documents.set(gram, (documents.get(gram) ?? 0) + 1);
    }
  }
  const vector = (orders: readonly Counts[]): Map<string, number>[] =>
    orders.map(
      (counts) =>
        new Map(
          [...counts].map(([gram, count]) => [
            gram,
            count * (Math.log(items.length) - Math.log(Math.max(1, documents.get(gram) ?? 0))),
          ]),
        ),
    );
  const norm = (weights: Counts): number => Math.sqrt(sum([...weights.values()].map((value) => value * value)));
  const scores = items.map(({ text }, i) => {
    const orders = grams(text);
    const weights = vector(orders);
    const bigrams = sum(orders[1]!.values());
    const perReference = references[i]!.map((referenceOrders) => {
      const referenceWeights = vector(referenceOrders);
      const difference = bigrams - sum(referenceOrders[1]!.values());
      const similarities = weights.map((h, n) => {
        const r = referenceWeights[n]!;
        const product = sum([...h].map(([gram, value]) => Math.min(value, r.get(gram) ?? 0) * (r.get(gram) ?? 0)));
        const size = norm(h) * norm(r);
        return size > 0 ? (product / size) * Math.exp(-(difference ** 2) / (2 * 36)) : 0;
      });
      return sum(similarities) / 4;
    });
    return (10 * sum(perReference)) / perReference.length;
  });
  return mean(scores);
}
