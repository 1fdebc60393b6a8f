import { ConfigError } from "../../base/errors";
import type { ScheduleOptions } from "../options";

/**
 * Factor of the learning rate at a step (from 0), as Hugging Face's schedules have it: step / warm-up, then
 * (total - step) / (total - warm-up), or half a cosine.
 */
export function scheduleFactor(step: number, totalSteps: number, options: ScheduleOptions = {}): number {
  const { type = "linear", warmupRatio = 0 } = options;
  const warmup = options.warmupSteps ?? Math.ceil(warmupRatio * totalSteps);
  if (!(warmup >= 0)) throw new ConfigError(`The schedule has ${warmup} warm-up steps.`, "Give 0 or more.");
  if (step < warmup) return step / Math.max(1, warmup);
  if (type === "constant") return 1;
  const left = Math.max(0, totalSteps - step) / Math.max(1, totalSteps - warmup);
  return type === "linear" ? left : 0.5 * (1 + Math.cos(Math.PI * (1 - left)));
}
