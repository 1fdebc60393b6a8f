import type { TRAIN } from "../flags";

/** Options of `safetape train` as the command line gives them, by the name of their flag in camel case. */
export type RecipeOptions = { readonly [Name in keyof typeof TRAIN]?: string | number | boolean };

/** A published setting of a run. */
export interface Recipe {
  /** Paper, model, task and method, such as `safe/bert-base/cola/lora`. */
  readonly name: string;
  /** The paper, and the table or section. */
  readonly source: string;
  /** The model that it was published for, by its name on the Hugging Face Hub. */
  readonly model: string;
  /** All options but model, data and output. */
  readonly options: RecipeOptions;
  /** What the paper leaves open, and this library's choice. */
  readonly ours: readonly string[];
}

/** Values of a table's row, by the names of its columns; a dash for a cell that the paper leaves empty. */
export function tableRow<const Column extends string>(
  columns: readonly Column[],
  row: string,
): Partial<Record<Column, number>> {
  const cells = row.trim().split(/\s+/);
  if (cells.length !== columns.length) throw new Error(`${cells.length} cells in ${row}, not ${columns.length}`);
  const entries = columns.map((column, i) => [column, Number(cells[i])] as const);
  // Object.fromEntries forgets which names the keys have.
  return Object.fromEntries(entries.filter(([, value]) => Number.isFinite(value))) as Partial<Record<Column, number>>;
}
