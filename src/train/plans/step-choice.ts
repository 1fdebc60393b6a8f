import { parseBytes } from "../../base/bytes";
import { ConfigError, MemoryBudgetError } from "../../base/errors";
import { sumBytes } from "../../gpu/ledger";
import type { Bytes } from "../../gpu/ledger";
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
 * @param needs bytes of the run with a choice, by lifetime.
 * @throws MemoryBudgetError with the smallest budget that would do.
 */
export function chooseStep(
  model: Model,
  wanted: Wanted,
  size: number,
  needs: (choice: StepChoice) => Bytes,
): StepChoice {
  const { recompute, microBatch } = wanted;
  const budget = budgetOf(wanted);
  const again = recompute ?? (microBatch === "fit" ? budget : "none");
  const sectionsWith = (rows: number): ReadonlySet<string> =>
    recomputedSections(model, again, (sections) => sumBytes(needs({ rows, sections })));
  if (microBatch !== "fit") {
    const choice = choiceOf(microBatch ?? size, sectionsWith);
    if (budget < Infinity) checkBudget(budget, needs(choice));
    return choice;
  }
  let least = Infinity;
  for (const rows of halves(size)) {
    try {
      const choice = choiceOf(rows, sectionsWith);
      const bytes = sumBytes(needs(choice));
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

function checkBudget(budget: number, needed: Bytes): void {
  const bytes = sumBytes(needed);
  if (bytes <= budget) return;
  throw new MemoryBudgetError(
    `This run needs ${bytes} bytes (weights ${needed.weight}, state ${needed.state}, saved ${needed.saved}, scratch ${needed.scratch}); the budget is ${budget}.`,
    'Use microBatch: "fit", recompute: "layers", shorter texts, a lower rank, or a larger memoryBudget.',
    bytes,
    budget,
  );
}
