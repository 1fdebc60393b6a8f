/** State of a `Random`, as plain JSON, so that a run can be saved and resumed. */
export interface RandomState {
  /** Four unsigned 32-bit words, not all zero. */
  readonly words: readonly [number, number, number, number];
  /** The second normal number of a Box-Muller pair, if only the first has been returned. */
  readonly spare?: number;
}

/** The type of a typed array does not say its length. */
interface FourWords extends Uint32Array {
  0: number;
  1: number;
  2: number;
  3: number;
}

/**
 * Seedable random number generator: xoshiro128** (Blackman and Vigna 2018), seeded by splitmix32. It is fast and gives
 * the same numbers on every machine. It is not for secrets.
 */
export class Random {
  readonly #words: FourWords;
  #spare: number | undefined;

  /**
   * @param seed any safe integer.
   * @param stream separates independent sequences of one seed, for example epochs or workers; default 0.
   * @throws RangeError if either is not a safe integer.
   */
  constructor(seed: number, stream = 0) {
    for (const part of [seed, stream]) {
      if (!Number.isSafeInteger(part)) throw new RangeError(`a seed must be a safe integer, not ${part}`);
    }
    this.#words = expand([seed, Math.floor(seed / 2 ** 32), stream, Math.floor(stream / 2 ** 32)]);
  }

  /**
   * A generator that continues where `save` was called.
   *
   * @throws RangeError if `state` was not returned by `save`.
   */
  static restore(state: RandomState): Random {
    const random = new Random(0);
    const { spare } = state;
    const words: readonly number[] = state.words;
    const valid = words.length === 4 && words.every(isWord) && words.some((word) => word !== 0);
    if (!valid) throw new RangeError(`a generator's state must be four 32-bit words, not ${String(words)}`);
    if (spare !== undefined && !Number.isFinite(spare)) throw new RangeError(`the spare number must be finite`);
    random.#words.set(words);
    random.#spare = spare;
    return random;
  }

  /** The complete state: `Random.restore(r.save())` returns the numbers that `r` would return next. */
  save(): RandomState {
    const s = this.#words;
    return { words: [s[0], s[1], s[2], s[3]], ...(this.#spare === undefined ? {} : { spare: this.#spare }) };
  }

  /** The next 32 random bits, as an unsigned integer. */
  bits(): number {
    const s = this.#words;
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

  /** A uniform number in [0, 1), with 53 random bits. */
  uniform(): number {
    const high = this.bits() >>> 5;
    const low = this.bits() >>> 6;
    return (high * 2 ** 26 + low) / 2 ** 53;
  }

  /** A normal number with mean 0 and standard deviation 1, by Box and Muller's transform. */
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

  /**
   * A uniform integer in [0, n), without bias.
   *
   * @throws RangeError unless `n` is an integer from 1 to 2^32.
   */
  below(n: number): number {
    if (!Number.isInteger(n) || n < 1 || n > 2 ** 32) throw new RangeError(`below(n) needs n from 1 to 2^32, not ${n}`);
    const limit = 2 ** 32 - (2 ** 32 % n);
    for (;;) {
      const bits = this.bits();
      if (bits < limit) return bits % n;
    }
  }

  /** Shuffles an array in place (Fisher and Yates) and returns it. */
  shuffle<T extends { length: number; [index: number]: unknown }>(items: T): T {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      [items[i], items[j]] = [items[j], items[i]];
    }
    return items;
  }
}

/** Four words from the parts of a seed, by splitmix32; never all zero. */
function expand(parts: readonly number[]): FourWords {
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
  // It was made with four words.
  return words as FourWords;
}

function rotateLeft(word: number, count: number): number {
  return (word << count) | (word >>> (32 - count));
}

function isWord(word: number): boolean {
  return Number.isInteger(word) && word >= 0 && word < 2 ** 32;
}
