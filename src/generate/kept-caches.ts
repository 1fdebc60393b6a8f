import type { Tensor } from "../tensor";
import type { Prompt } from "./options";

/**
 * Caches of keys and values that stay after a text, so that a prompt which begins as that text did is read from where they differ. They have
 * room for a power of two of tokens, and grow with the texts, by reading the prompt anew.
 */
export class KeptCaches {
  /** Tokens that the caches hold, without an adapter's virtual ones, at the first positions. */
  ids: number[] = [];
  /** How many of them the last prompt began with. */
  reused = 0;
  #capacity = 0;
  #tensors: ReadonlyMap<string, Tensor> = new Map();

  /** Most tokens of a text, virtual ones included. */
  get capacity(): number {
    return this.#capacity;
  }

  /**
   * Makes room, and keeps what a prompt shares with the text that is there; its last token is read in any case.
   * @param tokens of the longest text that may follow, virtual ones included.
   * @param sizes.most positions of the model.
   * @param sizes.limit tokens of a prompt above which keys are rotated otherwise: caches are of texts on one side of it.
   * @returns how many of the prompt's tokens need not be read.
   */
  begin(prompt: Prompt, tokens: number, { most, limit }: { readonly most: number; readonly limit: number }): number {
    if (tokens > this.#capacity) {
      this.dispose();
      this.#capacity = Math.min(most, 2 ** Math.ceil(Math.log2(tokens)));
    }
    const changes = this.ids.length <= limit !== prompt.length <= limit;
    const shared = changes ? 0 : this.ids.findIndex((id, i) => i >= prompt.length - 1 || id !== prompt[i]);
    this.ids.length = shared < 0 ? Math.min(this.ids.length, prompt.length - 1) : shared;
    return (this.reused = this.ids.length);
  }

  /** The caches, which `make` allocates where they are not there yet. */
  async tensors(make: () => Promise<ReadonlyMap<string, Tensor>>): Promise<ReadonlyMap<string, Tensor>> {
    if (this.#tensors.size === 0) this.#tensors = await make();
    return this.#tensors;
  }

  /** Frees the memory. The next text is read from its beginning. */
  dispose(): void {
    for (const tensor of this.#tensors.values()) tensor.dispose();
    this.#tensors = new Map();
    this.#capacity = 0;
    this.ids = [];
  }
}
