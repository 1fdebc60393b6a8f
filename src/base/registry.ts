import { ConfigError } from "./errors";

/** What a program adds, by name, to the things of one kind that come with the package. */
export class Registry<T> {
  readonly #entries = new Map<string, T>();

  /** @param kind in errors: "model family". */
  constructor(private readonly kind: string) {}

  /** Names in the order in which they were added. */
  get names(): readonly string[] {
    return [...this.#entries.keys()];
  }

  get(name: string): T | undefined {
    return this.#entries.get(name);
  }

  /**
   * Adds an entry. The function that it returns removes it again.
   * @param shipped names that come with the package.
   * @throws ConfigError for an empty name, and for one that is there already.
   */
  add(name: string, entry: T, shipped: readonly string[] = []): () => void {
    if (name === "" || shipped.includes(name) || this.#entries.has(name)) {
      throw new ConfigError(
        name === "" ? `A ${this.kind} has no name.` : `The ${this.kind} ${name} exists already.`,
        "Give it a name of its own.",
      );
    }
    this.#entries.set(name, entry);
    return () => void this.#entries.delete(name);
  }
}
