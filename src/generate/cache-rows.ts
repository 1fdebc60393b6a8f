/**
 * Which cache row holds the keys and values of each token. A beam writes new tokens into its own row, and reads earlier ones
 * from the rows of the beams from which it descends. So beams never copy keys and values, and all beams of a text share its
 * prompt.
 */
export class CacheRows {
  /** [rows, capacity]: the cache row that holds each position of a row's text. */
  readonly owners: Int32Array;
  /** [rows]: number of tokens of each row's text that the cache holds, which is where its next token starts. */
  readonly starts: Int32Array;

  constructor(
    readonly rows: number,
    readonly capacity: number,
  ) {
    this.owners = new Int32Array(rows * capacity);
    this.starts = new Int32Array(rows);
    for (let row = 0; row < rows; row++) this.#resetOwners(row);
  }

  #resetOwners(row: number): void {
    this.owners.fill(row, row * this.capacity, (row + 1) * this.capacity);
  }

  /** Continues rows [first, first + parents.length): row first + i with the text of row first + parents[i]. */
  descend(first: number, parents: readonly number[]): void {
    const { owners, starts, capacity } = this;
    const inherited = parents.map((parent) => {
      const offset = (first + parent) * capacity;
      return { owners: owners.slice(offset, offset + capacity), length: starts[first + parent]! };
    });
    inherited.forEach((parent, i) => {
      const row = first + i;
      this.#resetOwners(row);
      owners.set(parent.owners.subarray(0, parent.length), row * capacity);
      starts[row] = parent.length;
    });
  }

  /** Records that the cache holds `tokens` more tokens of a row's text. */
  extend(row: number, tokens: number): void {
    this.starts[row] = this.starts[row]! + tokens;
  }

  /** Ends a row's text. Whatever the row still writes goes to its own first position, which nothing reads. */
  end(row: number): void {
    this.#resetOwners(row);
    this.starts[row] = 0;
  }
}
