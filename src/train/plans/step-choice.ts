import { parseBytes } from "../../base/bytes";
import { ConfigError, MemoryBudgetError } from "../../base/errors";
import type { Model } from "../../model/model";
import type { TrainerOptions } from "../options";
import { recomputedSections } from "./recompute";

/** How a step is run while some tensors are live. */
export interface StepChoice {
  /** Rows that run at once; a batch of more is split. */
  readonly rows: number;
  /** Sections that are run again rather than kept. */
  readonly sections: ReadonlySet<string>;
}

type Wanted = Pick<TrainerOptions, "recompute" | "microBatch" | "memoryBudget">;

/** @throws ConfigError for a micro-batch that is no number of rows, or that is to fit into nothing. */
export function checkMicroBatch({ microBatch, memoryBudget }: Wanted): void {
  if (microBatch === "fit" && memoryBudget === undefined) {
    throw new ConfigError(
      'microBatch is "fit", but there is no memoryBudget to fit into.',
      "Give memoryBudget: bytes.",
    );
  }
  if (microBatch === undefined || microBatch === "fit" || (Number.isInteger(microBatch) && microBatch > 0)) return;
  throw new ConfigError(`microBatch is ${microBatch}.`, 'Give a number of rows from 1, or "fit".');
}

/** Bytes that a run may use. @throws ConfigError for what is no number of bytes. */
export function budgetOf({ memoryBudget }: Pick<TrainerOptions, "memoryBudget">): number {
  return memoryBudget === undefined ? Infinity : parseBytes(memoryBudget, "memoryBudget");
}

/** n, half of it, and so on to 1. */
export function halves(n: number): number[] {
  return n > 1 ? [n, ...halves(Math.ceil(n / 2))] : [1];
}

/**
 * The largest micro-batch that fits, with as little recomputation as it needs. The whole batch comes first: a device that
 * is filled runs faster, and what is run again costs less than what runs half empty.
 * @param size rows of the largest batch.
 * @param needs bytes of the run with a choice.
 * @throws MemoryBudgetError with the smallest budget that would do.
 */
export function chooseStep(
  model: Model,
  wanted: Wanted,
  size: number,
  needs: (choice: StepChoice) => number,
): StepChoice {
  const { recompute, microBatch } = wanted;
  const budget = budgetOf(wanted);
  const again = recompute ?? (microBatch === "fit" ? budget : "none");
  const sectionsWith = (rows: number): ReadonlySet<string> =>
    recomputedSections(model, again, (sections) => needs({ rows, sections }));
  if (microBatch !== "fit") return choiceOf(microBatch ?? size, sectionsWith);
  let least = Infinity;
  for (const rows of halves(size)) {
    try {
      const choice = choiceOf(rows, sectionsWith);
      const bytes = needs(choice);
      if (bytes <= budget) return choice;
      least = Math.min(least, bytes);
    } catch (error) {
      if (!(error instanceof MemoryBudgetError)) throw error;
      least = Math.min(least, error.neededBytes);
    }
  }
  throw new MemoryBudgetError(
    `Even row by row this run needs ${least} bytes; the budget is ${budget}.`,
    `Give at least ${least} bytes, or store weights in fewer bits or use shorter texts.`,
    least,
    budget,
  );
}

const choiceOf = (rows: number, sectionsWith: (rows: number) => ReadonlySet<string>): StepChoice => ({
  rows,
  sections: sectionsWith(rows),
});
