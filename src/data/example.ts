/** A text, or a pair of texts, with its label. */
export interface Example {
  readonly text: string;
  /** The second text of a pair. */
  readonly pair?: string;
  /** A class, counted from 0, or the number of a regression; -1 if the file has no labels, as test sets. */
  readonly label: number;
}

/** The examples of a file. */
export interface Dataset {
  readonly examples: readonly Example[];
  /** Names of the classes, by label. Undefined for a regression. */
  readonly labelNames: readonly string[] | undefined;
  /** Number of incomplete rows that were skipped, as is the convention for QQP. */
  readonly skipped: number;
}
