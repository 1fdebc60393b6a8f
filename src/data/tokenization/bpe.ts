import * as v from "valibot";
import { byteTokens, refuse, UnknownWordError } from "./vocabulary";
import type { Model, Vocabulary, WordToken } from "./vocabulary";
import { option, UnsupportedStep } from "./step";
import type { Step } from "./step";

/** A merge of two neighbouring tokens. Lower ranks are merged first. */
interface Merge {
  readonly rank: number;
  readonly id: number;
}

/** A token while its word is merged, with its neighbours in the word. */
interface WordPart {
  id: number;
  readonly from: number;
  to: number;
  next: number;
  previous: number;
}

const PAIR = v.strictTuple([v.string(), v.string()]);
/** Words whose tokens are kept. */
const CACHE_SIZE = 20_000;
const LONGEST_CACHED = 256;

/**
 * A word begins as its characters, and of the neighbours that can be merged those of the lowest rank are, the leftmost first
 * (Sennrich et al. 2016).
 */
export function mergingModel(step: Step, vocabulary: Vocabulary): Model {
  refuse(step, "dropout", (value) => value === 0);
  const prefix = option(step, "continuing_subword_prefix", "string", "");
  const merges = readMerges(step, vocabulary, prefix);
  const skipsKnownWords = option(step, "ignore_merges", "boolean", false);
  const split = splitter(step, vocabulary, prefix);
  const cache = new Map<string, readonly WordToken[]>();
  return (word) => {
    const known = skipsKnownWords ? vocabulary.get(word) : undefined;
    if (known !== undefined) return [{ id: known, from: 0, to: word.length }];
    const cached = cache.get(word);
    if (cached) return cached;
    const tokens = merged(split(word), merges);
    if (cache.size >= CACHE_SIZE) cache.clear();
    if (word.length <= LONGEST_CACHED) cache.set(word, tokens);
    return tokens;
  };
}

/** Merges by their pairs. */
class Merges {
  readonly #merges = new Map<number, Merge>();

  /** @param size one more than the largest id. */
  constructor(private readonly size: number) {}

  set(left: number, right: number, merge: Merge): void {
    this.#merges.set(left * this.size + right, merge);
  }

  get(left: number, right: number): Merge | undefined {
    return this.#merges.get(left * this.size + right);
  }
}

function readMerges(step: Step, vocabulary: Vocabulary, prefix: string): Merges {
  let largest = 0;
  for (const id of vocabulary.values()) largest = Math.max(largest, id);
  if (largest >= MOST_IDS) throw new UnsupportedStep(`an id of ${largest} in BPE is not supported`);
  const merges = new Merges(largest + 1);
  const list: unknown = step["merges"];
  if (!Array.isArray(list)) throw new UnsupportedStep("merges of BPE is not a list");
  list.forEach((merge: unknown, rank) => {
    const pair: unknown = typeof merge === "string" ? merge.split(" ") : merge;
    const [left, right] = v.is(PAIR, pair) ? pair : [];
    if (left === undefined || right === undefined) {
      throw new UnsupportedStep(`merge ${rank + 1} of BPE is not a pair of tokens`);
    }
    const tokens = [left, right, left + right.slice(prefix.length)];
    const [first, second, id] = tokens.map((token) => {
      const known = vocabulary.get(token);
      if (known !== undefined) return known;
      throw new UnsupportedStep(
        `merge ${rank + 1} of BPE has ${JSON.stringify(token.slice(0, 60))}, which is not in its vocabulary`,
      );
    });
    merges.set(first!, second!, { rank, id: id! });
  });
  return merges;
}

/** Pairs of ids are numbers, which are exact below the square of this. */
const MOST_IDS = 2 ** 26;

/** Splits a word into the tokens of its characters, of their bytes, or the unknown token. */
function splitter(step: Step, vocabulary: Vocabulary, prefix: string): (word: string) => WordPart[] {
  const suffix = option(step, "end_of_word_suffix", "string", "");
  const byteIds = option(step, "byte_fallback", "boolean", false) ? byteTokens(vocabulary) : undefined;
  const fusesUnknown = option(step, "fuse_unk", "boolean", false);
  const unknown = option(step, "unk_token", "string", "");
  const encoder = new TextEncoder();
  return (word) => {
    const symbols: WordPart[] = [];
    let lastUnknown: WordPart | undefined;
    const add = (id: number, from: number, to: number): WordPart => {
      const symbol = { id, from, to, next: symbols.length + 1, previous: symbols.length - 1 };
      symbols.push(symbol);
      return symbol;
    };
    let from = 0;
    for (const character of word) {
      const to = from + character.length;
      const token = `${from > 0 ? prefix : ""}${character}${to === word.length ? suffix : ""}`;
      const id = vocabulary.get(token);
      const bytes =
        id === undefined && byteIds ? Array.from(encoder.encode(token), (byte) => byteIds[byte]) : [undefined];
      if (id !== undefined) add(id, from, to);
      else if (bytes.every((byte) => byte !== undefined)) for (const byte of bytes) add(byte, from, to);
      else if (fusesUnknown && lastUnknown !== undefined && lastUnknown === symbols.at(-1)) lastUnknown.to = to;
      // As in Hugging Face's tokenizers, a vocabulary without an unknown token drops what it cannot spell.
      else if (unknown !== "") lastUnknown = add(unknownId(unknown, vocabulary), from, to);
      from = to;
    }
    const last = symbols.at(-1);
    if (last) last.next = -1;
    return symbols;
  };
}

function unknownId(token: string, vocabulary: Vocabulary): number {
  const id = vocabulary.get(token);
  if (id === undefined) throw new UnknownWordError(token);
  return id;
}

/** The tokens that are left after all merges. */
function merged(symbols: readonly WordPart[], merges: Merges): WordToken[] {
  const isAlive = symbols.map(() => true);
  const queue = new Queue();
  const offer = (left: number): void => {
    const symbol = symbols[left];
    const merge = symbol && symbol.next >= 0 ? merges.get(symbol.id, symbols[symbol.next]!.id) : undefined;
    if (merge) queue.push(merge.rank * POSITIONS + left);
  };
  symbols.forEach((_, i) => offer(i));
  for (let entry = queue.pop(); entry !== undefined; entry = queue.pop()) {
    const left = entry % POSITIONS;
    const symbol = symbols[left]!;
    const right = symbols[symbol.next];
    const merge = isAlive[left] && right ? merges.get(symbol.id, right.id) : undefined;
    // An entry is out of date if one of its tokens has been merged since.
    if (!right || merge?.rank !== Math.floor(entry / POSITIONS)) continue;
    isAlive[symbol.next] = false;
    symbol.id = merge.id;
    symbol.to = right.to;
    symbol.next = right.next;
    const following = symbols[right.next];
    if (following) following.previous = left;
    offer(symbol.previous);
    offer(left);
  }
  return symbols.flatMap(({ id, from, to }, i) => (isAlive[i] ? [{ id, from, to }] : []));
}

/** Ranks times this plus positions are exact for 2^25 merges. */
const POSITIONS = 2 ** 28;

/** A binary heap of numbers, the smallest first. */
class Queue {
  readonly #items: number[] = [];

  push(item: number): void {
    const items = this.#items;
    let at = items.length;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (items[parent]! <= item) break;
      items[at] = items[parent]!;
      at = parent;
    }
    items[at] = item;
  }

  pop(): number | undefined {
    const items = this.#items;
    const smallest = items[0];
    const item = items.pop();
    if (items.length === 0 || item === undefined) return smallest;
    let at = 0;
    for (let child = 1; child < items.length; child = 2 * at + 1) {
      if (child + 1 < items.length && items[child + 1]! < items[child]!) child++;
      if (items[child]! >= item) break;
      items[at] = items[child]!;
      at = child;
    }
    items[at] = item;
    return smallest;
  }
}
