/**
 * Seedable random numbers: xoshiro128** (Blackman and Vigna), seeded through splitmix32. Fast, 128 bits of state, the
 * same numbers on every machine; not for secrets. Its state is plain JSON, so that a run can be saved and resumed.
 */
export interface RandomState {
  /** Four unsigned 32-bit words, not all zero. */
  readonly words: readonly [number, number, number, number];
  /** The second normal number of a Box-Muller pair, if it was not handed out yet. */
  readonly spare?: number;
}

export class Random {
  #words: Uint32Array;
  #spare: number | undefined;

  /**
   * @param seed any safe integer; `stream` separates independent sequences of one seed (an epoch, a worker).
   * @throws RangeError where a number is no safe integer.
   */
  constructor(seed: number, stream = 0) {
    for (const part of [seed, stream]) {
      if (!Number.isSafeInteger(part)) throw new RangeError(`a seed must be a safe integer, not ${part}`);
    }
    this.#words = expand([seed, Math.floor(seed / 2 ** 32), stream, Math.floor(stream / 2 ** 32)]);
  }

  /** A generator that goes on where `save` was called. Throws RangeError for what no generator saved. */
  static restore(state: RandomState): Random {
    const random = new Random(0);
    const { spare } = state;
    const words: readonly number[] = state.words;
    const valid = words.length === 4 && words.every(isWord) && words.some((word) => word !== 0);
    if (!valid) throw new RangeError(`a generator's state must be four 32-bit words, not ${String(words)}`);
    if (spare !== undefined && !Number.isFinite(spare)) throw new RangeError(`the spare number must be finite`);
    random.#words = Uint32Array.from(words);
    random.#spare = spare;
    return random;
  }

  /** The whole state: `Random.restore(r.save())` gives the numbers that `r` would have given next. */
  save(): RandomState {
    const [a, b, c, d] = this.#words as unknown as [number, number, number, number];
    return { words: [a, b, c, d], ...(this.#spare === undefined ? {} : { spare: this.#spare }) };
  }

  /** The next 32 random bits, as an unsigned integer. */
  bits(): number {
    const s = this.#words as unknown as [number, number, number, number];
    const result = Math.imul(rotateLeft(Math.imul(s[1], 5), 7), 9) >>> 0;
    const t = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotateLeft(s[3], 11);
    return result;
  }

  /** Uniform in [0, 1), with 53 random bits. */
  uniform(): number {
    const high = this.bits() >>> 5;
    const low = this.bits() >>> 6;
    return (high * 2 ** 26 + low) / 2 ** 53;
  }

  /** Normal with mean 0 and standard deviation 1 (Box-Muller, pairs). */
  normal(): number {
    const spare = this.#spare;
    if (spare !== undefined) {
      this.#spare = undefined;
      return spare;
    }
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    const angle = 2 * Math.PI * this.uniform();
    this.#spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  /** A uniform integer in [0, n), without bias. `n` is 1 to 2^32; else RangeError. */
  below(n: number): number {
    if (!Number.isInteger(n) || n < 1 || n > 2 ** 32) throw new RangeError(`below(n) needs n from 1 to 2^32, not ${n}`);
    const limit = 2 ** 32 - (2 ** 32 % n);
    for (;;) {
      const bits = this.bits();
      if (bits < limit) return bits % n;
    }
  }

  /** Shuffles in place (Fisher-Yates) and returns the same array. */
  shuffle<T extends { length: number; [index: number]: unknown }>(items: T): T {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      [items[i], items[j]] = [items[j], items[i]];
    }
    return items;
  }
}

/** splitmix32 over the seed's parts: four words that are never all zero. */
function expand(parts: readonly number[]): Uint32Array {
  let state = 0;
  const next = (): number => {
    state = (state + 0x9e3779b9) | 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return (z ^ (z >>> 16)) >>> 0;
  };
  for (const part of parts) state = (next() ^ part) | 0;
  const words = Uint32Array.from({ length: 4 }, next);
  if (words.every((word) => word === 0)) words[0] = 1;
  return words;
}

function rotateLeft(word: number, count: number): number {
  return (word << count) | (word >>> (32 - count));
}

function isWord(word: number): boolean {
  return Number.isInteger(word) && word >= 0 && word < 2 ** 32;
}
