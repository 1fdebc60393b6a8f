import { parseBytes } from "../../base/bytes";
import { ConfigError, MemoryBudgetError } from "../../base/errors";
import { sumBytes } from "../../gpu/ledger";
import type { Bytes } from "../../gpu/ledger";
import type { Model } from "../../model/model";
import type { MemoryOptions } from "../options";
import { recomputedSections } from "./recompute";

/** How steps run while some tensors are live. */
export interface StepChoice {
  /** Rows that run at the same time. A batch with more rows is split. */
  readonly rows: number;
  /** Sections of the model that are recomputed rather than kept. */
  readonly sections: ReadonlySet<string>;
}

/** What a run needs of GPU memory when its steps run in some way. */
export interface ChoiceNeeds {
  /** Rows that belong together. Default 1. */
  readonly rowsTogether?: number | undefined;
  /** Bytes between two steps: what a number of bytes as `recompute` is compared with. */
  readonly betweenSteps: (choice: StepChoice) => number;
  /** Bytes at the run's worst moment, by lifetime: what the budget is compared with. */
  readonly peak: (choice: StepChoice) => Bytes;
}

/** @throws ConfigError for a micro-batch that is not a number of rows, or "fit" without a budget. */
export function checkMicroBatch({ microBatch, budget }: MemoryOptions): void {
  if (microBatch === "fit" && budget === undefined) {
    throw new ConfigError(
      'memory.microBatch is "fit", but there is no memory.budget to fit into.',
      "Give memory.budget: bytes.",
    );
  }
  if (microBatch === undefined || microBatch === "fit" || (Number.isInteger(microBatch) && microBatch > 0)) return;
  throw new ConfigError(`memory.microBatch is ${microBatch}.`, 'Give a number of rows from 1, or "fit".');
}

/** Bytes that a run may use; Infinity without a budget. @throws ConfigError for a budget that is not a number of bytes. */
export function budgetBytes({ budget }: MemoryOptions = {}): number {
  return budget === undefined ? Infinity : parseBytes(budget, "memory.budget");
}

/** n, half of it rounded up, and so on to 1, or to as many rows as belong together, of which all are multiples. */
export function halves(n: number, together = 1): number[] {
  return n > together ? [n, ...halves(Math.ceil(n / together / 2) * together, together)] : [together];
}

/**
 * How steps run within the budget. "fit" takes the most rows that fit, and with so many rows the least recomputation: a GPU
 * that is filled runs faster, and recomputation costs less than running half empty.
 * @param largestSize rows of the largest batch.
 * @param needs what the run needs with a choice.
 * @throws MemoryBudgetError with the smallest budget that is accepted.
 */
export function chooseStep(model: Model, options: MemoryOptions, largestSize: number, needs: ChoiceNeeds): StepChoice {
  const { microBatch, recompute } = options;
  const budget = budgetBytes(options);
  if (microBatch === "fit") {
    return fittingChoice(budget, halves(largestSize, needs.rowsTogether), needs.peak, (rows) => ({
      rows,
      sections:
        recompute === undefined
          ? recomputedSections(model, budget, (sections) => sumBytes(needs.peak({ rows, sections })))
          : recomputedSections(model, recompute, (sections) => needs.betweenSteps({ rows, sections })),
    }));
  }
  const rows = microBatch ?? largestSize;
  const bytesWith = (sections: ReadonlySet<string>): number => needs.betweenSteps({ rows, sections });
  const choice = { rows, sections: recomputedSections(model, recompute ?? "none", bytesWith) };
  if (budget < Infinity) checkBudget(budget, needs.peak(choice));
  return choice;
}

/** The first choice that fits. */
function fittingChoice(
  budget: number,
  candidates: readonly number[],
  peak: ChoiceNeeds["peak"],
  choiceWith: (rows: number) => StepChoice,
): StepChoice {
  let neededBytes = Infinity;
  for (const rows of candidates) {
    try {
      const choice = choiceWith(rows);
      checkBudget(budget, peak(choice));
      return choice;
    } catch (error) {
      if (!(error instanceof MemoryBudgetError)) throw error;
      neededBytes = Math.min(neededBytes, error.neededBytes);
    }
  }
  throw new MemoryBudgetError(
    `Even row by row this run needs ${neededBytes} bytes; the budget is ${budget}.`,
    `Give at least ${neededBytes} bytes, or store weights in fewer bits or use shorter texts.`,
    neededBytes,
    budget,
  );
}

function checkBudget(budget: number, needed: Bytes): void {
  const bytes = sumBytes(needed);
  if (bytes <= budget) return;
  throw new MemoryBudgetError(
    `This run needs ${bytes} bytes (weights ${needed.weight}, state ${needed.state}, saved ${needed.saved}, scratch ${needed.scratch}); the budget is ${budget}.`,
    'Use memory.microBatch: "fit", memory.recompute: "layers", shorter texts, a lower rank, or a larger memory.budget.',
    bytes,
    budget,
  );
}
