import { DataError } from "../base/errors";

/** A system's text and the texts that people gave for it. */
export interface Generated {
  readonly text: string;
  readonly references: readonly string[];
}

type Counts = ReadonlyMap<string, number>;

/** mteval-v13a's tokenisation, lower-cased: punctuation apart, except inside numbers. */
export function mtevalTokens(text: string): string[] {
  const spaced = ` ${text.toLowerCase()} `
    .replace(/([{-~[-` -&(-+:-@/])/g, " $1 ")
    .replace(/([^0-9])([.,])/g, "$1 $2 ")
    .replace(/([.,])([^0-9])/g, " $1 $2")
    .replace(/([0-9])(-)/g, "$1 $2 ");
  return spaced.split(/\s+/).filter(Boolean);
}

/** Lower case without punctuation: what CIDEr and ROUGE-L compare. */
export function plainTokens(text: string): string[] {
  return text.toLowerCase().match(/[\p{L}\p{N}]+(?:['’][\p{L}]+)?/gu) ?? [];
}

function ngrams(tokens: readonly string[], n: number): Map<string, number> {
  const counts = new Map<string, number>();
  for (let i = 0; i + n <= tokens.length; i++) {
    const gram = tokens.slice(i, i + n).join("\u0001");
    counts.set(gram, (counts.get(gram) ?? 0) + 1);
  }
  return counts;
}

function mostOf(all: readonly Counts[]): Map<string, number> {
  const most = new Map<string, number>();
  for (const counts of all) for (const [gram, count] of counts) most.set(gram, Math.max(count, most.get(gram) ?? 0));
  return most;
}

const sum = (values: Iterable<number>): number => [...values].reduce((total, value) => total + value, 0);

function check(items: readonly Generated[]): void {
  const bad = items.findIndex(({ references }) => references.length === 0);
  if (items.length > 0 && bad < 0) return;
  const fact = items.length === 0 ? "no texts are scored" : `text ${bad + 1} has no reference`;
  throw new DataError(fact, "give at least one text, each with a reference");
}

/**
 * BLEU-4 over a corpus (Papineni et al. 2002), as the E2E challenge measures it: counts clipped by the most of any
 * reference, the closest reference's length (the shorter of two), 1e-15 for a precision of 0. From 0 to 1.
 * @throws DataError for nothing to score.
 */
export function bleu(items: readonly Generated[]): number {
  check(items);
  const [matched, total] = [
    [0, 0, 0, 0],
    [0, 0, 0, 0],
  ];
  let [length, referenceLength] = [0, 0];
  for (const { text, references } of items) {
    const own = mtevalTokens(text);
    const others = references.map(mtevalTokens);
    length += own.length;
    const lengths = others.map((tokens) => tokens.length);
    referenceLength += lengths.reduce((best, next) => {
      const [a, b] = [Math.abs(next - own.length), Math.abs(best - own.length)];
      return a < b || (a === b && next < best) ? next : best;
    });
    for (let n = 1; n <= 4; n++) {
      const most = mostOf(others.map((tokens) => ngrams(tokens, n)));
      const counts = ngrams(own, n);
      matched[n - 1]! += sum([...counts].map(([gram, count]) => Math.min(count, most.get(gram) ?? 0)));
      total[n - 1]! += sum(counts.values());
    }
  }
  const logs = matched.map((count, i) => Math.log(count > 0 && total[i]! > 0 ? count / total[i]! : 1e-15));
  const penalty = length <= referenceLength ? Math.exp(1 - referenceLength / Math.max(1, length)) : 1;
  return penalty * Math.exp(sum(logs) / 4);
}

/**
 * NIST-5 over a corpus (Doddington 2002): n-grams weighted by how much each tells, log2(count of its prefix / its own
 * count) over all references, and a penalty for texts shorter than the average reference.
 * @throws DataError for nothing to score.
 */
export function nist(items: readonly Generated[]): number {
  check(items);
  const orders = 5;
  const references = items.map((item) => item.references.map(mtevalTokens));
  const all = Array.from({ length: orders + 1 }, () => new Map<string, number>());
  for (const tokens of references.flat()) {
    all[0]!.set("", (all[0]!.get("") ?? 0) + tokens.length);
    for (let n = 1; n <= orders; n++) {
      for (const [gram, count] of ngrams(tokens, n)) all[n]!.set(gram, (all[n]!.get(gram) ?? 0) + count);
    }
  }
  const information = (gram: string, n: number): number => {
    const prefix = n === 1 ? "" : gram.slice(0, gram.lastIndexOf("\u0001"));
    return Math.log2((all[n - 1]!.get(prefix) ?? 0) / (all[n]!.get(gram) ?? Infinity));
  };
  const [told, total] = [Array<number>(orders).fill(0), Array<number>(orders).fill(0)];
  let [length, average] = [0, 0];
  items.forEach(({ text }, i) => {
    const own = mtevalTokens(text);
    const others = references[i]!;
    length += own.length;
    average += sum(others.map((tokens) => tokens.length)) / others.length;
    for (let n = 1; n <= orders; n++) {
      const most = mostOf(others.map((tokens) => ngrams(tokens, n)));
      for (const [gram, count] of ngrams(own, n)) {
        const hits = Math.min(count, most.get(gram) ?? 0);
        if (hits > 0) told[n - 1]! += hits * information(gram, n);
        total[n - 1]! += count;
      }
    }
  });
  const beta = Math.LN2 / Math.log(1.5) ** 2;
  const ratio = Math.min(1, length / average);
  const penalty = ratio > 0 ? Math.exp(-beta * Math.log(ratio) ** 2) : 0;
  return penalty * sum(told.map((value, i) => (total[i]! > 0 ? value / total[i]! : 0)));
}

function longestCommon(a: readonly string[], b: readonly string[]): number {
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
 * ROUGE-L (Lin 2004) as the COCO and E2E evaluations have it: recall and precision each from their best reference, beta
 * 1.2, averaged over texts. From 0 to 1. @throws DataError for nothing to score.
 */
export function rougeL(items: readonly Generated[]): number {
  check(items);
  const beta = 1.2 ** 2;
  const scores = items.map(({ text, references }) => {
    const own = plainTokens(text);
    const others = references.map(plainTokens);
    const common = others.map((tokens) => longestCommon(own, tokens));
    const precision = Math.max(...common.map((length) => length / Math.max(1, own.length)));
    const recall = Math.max(...common.map((length, i) => length / Math.max(1, others[i]!.length)));
    return precision > 0 && recall > 0 ? ((1 + beta) * precision * recall) / (recall + beta * precision) : 0;
  });
  return sum(scores) / scores.length;
}

/**
 * CIDEr-D (Vedantam et al. 2015, section 4) as the COCO and E2E evaluations compute it: tf-idf vectors of 1- to 4-grams,
 * document frequencies over the instances' references, clipped cosines, a Gaussian penalty (sigma 6) on the difference in
 * bigrams, averaged over n and references, times 10. @throws DataError for nothing to score.
 */
export function cider(items: readonly Generated[]): number {
  check(items);
  const grams = (text: string): Map<string, number>[] => {
    const tokens = plainTokens(text);
    return [1, 2, 3, 4].map((n) => ngrams(tokens, n));
  };
  const references = items.map((item) => item.references.map(grams));
  const documents = new Map<string, number>();
  for (const own of references) {
    for (const gram of new Set(own.flatMap((orders) => orders.flatMap((counts) => [...counts.keys()])))) {
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
  const norm = (own: Counts): number => Math.sqrt(sum([...own.values()].map((value) => value * value)));
  const scores = items.map(({ text }, i) => {
    const mine = grams(text);
    const own = vector(mine);
    const bigrams = sum(mine[1]!.values());
    const perReference = references[i]!.map((orders) => {
      const other = vector(orders);
      const difference = bigrams - sum(orders[1]!.values());
      const similar = own.map((h, n) => {
        const r = other[n]!;
        const product = sum([...h].map(([gram, value]) => Math.min(value, r.get(gram) ?? 0) * (r.get(gram) ?? 0)));
        const size = norm(h) * norm(r);
        return size > 0 ? (product / size) * Math.exp(-(difference ** 2) / (2 * 36)) : 0;
      });
      return sum(similar) / 4;
    });
    return (10 * sum(perReference)) / perReference.length;
  });
  return sum(scores) / scores.length;
}
