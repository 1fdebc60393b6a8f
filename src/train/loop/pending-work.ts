/** What is to be done one after the other. Where one fails, the next call begins with it: nothing is done twice or left out. */
export class PendingWork {
  readonly #left: (() => Promise<void>)[] = [];
  #done = 0;

  add(...phases: readonly (() => Promise<void>)[]): void {
    this.#left.push(...phases);
  }

  /** Whether some are done and others are left. */
  get isHalfDone(): boolean {
    return this.#done > 0 && this.#left.length > 0;
  }

  async run(): Promise<void> {
    for (let next = this.#left[0]; next; next = this.#left[0]) {
      await next();
      this.#left.shift();
      this.#done++;
    }
    this.#done = 0;
  }
}
