import { OutOfMemoryError } from "../../base/errors";
import type { MemoryAlternative } from "../../base/errors";
import { recomputedSections } from "../plans/recompute";
import type { StepChoice } from "../plans/step-choice";
import type { RemedyParts } from "./memory-remedy";

/** The error for memory that the driver does not have, with what the run needs as it is and with other options. */
export function withAlternatives(error: OutOfMemoryError, parts: RemedyParts): OutOfMemoryError {
  const plannedBytes = parts.needs(parts.book.choice);
  const alternatives = alternativesOf(parts).filter(({ bytes }) => bytes < plannedBytes);
  const listed = alternatives.map(({ options, bytes }) => `with ${options} ${bytes}`).join(", ");
  const remedy = listed
    ? `As it is the run's plan needs ${plannedBytes} bytes; ${listed}.`
    : `The run's plan needs ${plannedBytes} bytes, row by row and with every layer recomputed. Use shorter texts, a lower rank, or weights in fewer bits.`;
  const { requestedBytes, liveBytes, fact } = error;
  return new OutOfMemoryError(
    fact,
    remedy,
    { requestedBytes, liveBytes, plannedBytes, alternatives },
    { cause: error },
  );
}

/** More recomputation, fewer rows at the same time, and as much of both as possible. */
function alternativesOf({ options, book, needs }: RemedyParts): MemoryAlternative[] {
  const { rows, sections } = book.choice;
  const layers = recomputedSections(options.model.model, "layers", () => 0);
  const half = Math.ceil(rows / 2);
  const choices: [string, StepChoice][] = [
    ['memory.recompute: "layers"', { rows, sections: layers }],
    [`memory.microBatch: ${half}`, { rows: half, sections }],
    ['memory.recompute: "layers" and memory.microBatch: 1', { rows: 1, sections: layers }],
  ];
  return choices.map(([name, choice]) => ({ options: name, bytes: needs(choice) }));
}
