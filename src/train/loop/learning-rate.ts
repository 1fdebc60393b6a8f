import { ConfigError } from "../../base/errors";
import type { ScheduleOptions } from "../options";

/**
 * Factor of the learning rate at a step (from 0), as in Hugging Face's schedules: step / warm-up during warm-up, then
 * (total - step) / (total - warm-up) for `linear`, or half a cosine over the same interval.
 * @throws ConfigError for a negative number of warm-up steps.
 */
export function scheduleFactor(step: number, totalSteps: number, options: ScheduleOptions = {}): number {
  const { type = "linear", warmupRatio = 0 } = options;
  const warmupSteps = options.warmupSteps ?? Math.ceil(warmupRatio * totalSteps);
  if (!(warmupSteps >= 0)) {
    throw new ConfigError(`The schedule has ${warmupSteps} warm-up steps.`, "Give 0 or more.");
  }
  if (step < warmupSteps) return step / Math.max(1, warmupSteps);
  if (type === "constant") return 1;
  const remaining = Math.max(0, totalSteps - step) / Math.max(1, totalSteps - warmupSteps);
  return type === "linear" ? remaining : 0.5 * (1 + Math.cos(Math.PI * (1 - remaining)));
}
