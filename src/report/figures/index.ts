import type { RunRecord } from "../record";
import type { Figure } from "../svg";
import { adapterFigure } from "./adapters";
import { learningRateFigure, timeFigure } from "./steps";
import { lossFigure } from "./loss";
import { memoryFigure } from "./memory";
import { wireFigure } from "./wire";

/** The figures of a run, in the order of its report. */
export function figures(record: RunRecord): Figure[] {
  const map = adapterFigure(record);
  const wire = wireFigure(record);
  return [
    lossFigure(record),
    memoryFigure(record),
    ...(map ? [map] : []),
    timeFigure(record),
    ...(wire ? [wire] : []),
    learningRateFigure(record),
  ];
}
