/**
 * Where the keys and values of texts lie in a cache of rows: beam b of a text writes its new token into its own row, and
 * reads earlier ones where the beams that it descends from wrote them. So a beam never copies keys and values, and all
 * beams of a text share its prompt.
 */
export class Places {
  /** [rows, capacity]: the cache row that holds each position of a row's text. */
  readonly owners: Int32Array;
  /** [rows]: tokens of each row's text that the cache holds. */
  readonly starts: Int32Array;

  constructor(
    readonly rows: number,
    readonly capacity: number,
  ) {
    this.owners = new Int32Array(rows * capacity);
    this.starts = new Int32Array(rows);
    for (let row = 0; row < rows; row++) this.#own(row);
  }

  #own(row: number): void {
    this.owners.fill(row, row * this.capacity, (row + 1) * this.capacity);
  }

  /** Rows [first, first + parents.length) go on: row first + i with what row first + parents[i] has. */
  descend(first: number, parents: readonly number[]): void {
    const { owners, starts, capacity } = this;
    const old = parents.map((parent) => {
      const start = (first + parent) * capacity;
      return { owners: owners.slice(start, start + capacity), length: starts[first + parent]! };
    });
    old.forEach((from, i) => {
      const row = first + i;
      this.#own(row);
      owners.set(from.owners.subarray(0, from.length), row * capacity);
      starts[row] = from.length;
    });
  }

  /** A row's text has `tokens` more tokens in the cache. */
  extend(row: number, tokens: number): void {
    this.starts[row] = this.starts[row]! + tokens;
  }

  /** A row's text is over: whatever it still writes falls on its own first position. */
  end(row: number): void {
    this.#own(row);
    this.starts[row] = 0;
  }
}
