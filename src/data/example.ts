/** One text or pair of texts with its label: a class from 0, or a number where the task is a regression. */
export interface Example {
  readonly text: string;
  readonly pair?: string;
  /** -1 where the file has no labels (test sets). */
  readonly label: number;
}

export interface Dataset {
  readonly examples: readonly Example[];
  /** Names of the classes by label; undefined for a regression. */
  readonly labelNames: readonly string[] | undefined;
  /** Rows that the task's convention leaves out (QQP has incomplete ones). */
  readonly skipped: number;
}
