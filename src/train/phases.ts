/** What is to be done one after the other. Where one fails, the next call begins with it: nothing is done twice or left out. */
export class Phases {
  readonly #left: (() => Promise<void>)[] = [];

  add(...phases: readonly (() => Promise<void>)[]): void {
    this.#left.push(...phases);
  }

  async run(): Promise<void> {
    for (let next = this.#left[0]; next; next = this.#left[0]) {
      await next();
      this.#left.shift();
    }
  }
}
