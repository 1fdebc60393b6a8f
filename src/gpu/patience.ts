/** Shortest sleep worth a timer, in milliseconds. */
const LEAST = 3;
/** Share of the expected time that is slept; the rest is left to the wait itself. */
const SHARE = 0.8;
/** Work that is over so soon after a sleep, in milliseconds, was slept through. */
const AT_ONCE = 0.5;
/** How an expectation changes: down where the work was slept through, and slowly up towards longer times. */
const SHRINK = 0.7;
const GROWTH = 1.05;

/**
 * Sleeps through most of the time that some work is known to take. npm `webgpu` waits by asking the device again and
 * again, on a core that a software adapter, a tokenizer or another program can use.
 */
export class Patience {
  /** Milliseconds that each kind of work takes; 0 after its first time, which also makes what later ones find. */
  readonly #expected = new WeakMap<object, number>();

  /** @param sleeps false where waiting costs nothing, as in browsers. */
  constructor(private readonly sleeps: boolean) {}

  /** Waits for work of a kind that was submitted at `start`; `wait` ends when it is done. */
  async during<T>(kind: object, start: number, wait: () => Promise<T>): Promise<T> {
    if (!this.sleeps) return wait();
    const expected = this.#expected.get(kind);
    const left = SHARE * (expected ?? 0) - (performance.now() - start);
    const sleeps = left >= LEAST;
    if (sleeps) await new Promise((resolve) => setTimeout(resolve, left));
    const woken = performance.now();
    const result = await wait();
    const [end, last] = [performance.now(), expected ?? Infinity];
    const taken = end - start;
    if (expected === undefined) this.#expected.set(kind, 0);
    else if (sleeps && end - woken < AT_ONCE) this.#expected.set(kind, SHRINK * last);
    else this.#expected.set(kind, last === 0 ? taken : Math.min(taken, GROWTH * last));
    return result;
  }
}
