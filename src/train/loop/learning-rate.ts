import { ConfigError } from "../../base/errors";
import { isOptimizer } from "../../optimizer/adamw";
import { runLength } from "../estimate/run-length";
import type { Schedule, ScheduleOptions, ThreeRateSchedule, TrainerOptions } from "../options";

/**
 * A schedule of three learning rates, as the empirical study of PEFT has them (initial, after warm-up, after annealing):
 * the rate rises from `initial` to `peak` over `warmupSteps`, and then goes to `final` along a straight line.
 */
export function threeRate(initial: number, peak: number, final: number, warmupSteps: number): ThreeRateSchedule {
  return { type: "three_rate", initial, peak, final, warmupSteps };
}

/**
 * Options in which the optimizer has the learning rate that the schedule's factors belong to.
 * @throws ConfigError for numbers that are negative or not finite, which a schedule of one's own may not return for any step either, and for a
 * learning rate beside a schedule of three rates.
 */
export function withScheduledRate(options: TrainerOptions): TrainerOptions {
  const { schedule = {}, optimizer = {} } = options;
  if (typeof schedule === "function") {
    const { totalSteps } = runLength(options);
    for (let step = 0; step < totalSteps; step++) scheduleFactor(step, totalSteps, schedule);
    return options;
  }
  const { warmupSteps = 0, warmupRatio = 0 } = schedule;
  if (!(warmupSteps >= 0) || !(warmupRatio >= 0 && warmupRatio <= 1)) {
    throw new ConfigError(
      `The schedule has warmupSteps ${warmupSteps} and warmupRatio ${warmupRatio}.`,
      "Give a number of steps from 0, or a share from 0 to 1.",
    );
  }
  if (schedule.type !== "three_rate") return options;
  const { initial, peak, final } = schedule;
  if (!(initial >= 0 && peak > 0 && final >= 0) || ![initial, peak, final].every(Number.isFinite)) {
    throw new ConfigError(
      `The schedule has the rates ${initial}, ${peak} and ${final}.`,
      "Give numbers from 0, and a peak above 0.",
    );
  }
  const { learningRate = peak } = isOptimizer(optimizer) ? optimizer.settings : optimizer;
  if (learningRate === peak) {
    return isOptimizer(optimizer) ? options : { ...options, optimizer: { ...optimizer, learningRate } };
  }
  throw new ConfigError(
    `The optimizer has learningRate ${learningRate}, and the schedule rises to ${peak}.`,
    isOptimizer(optimizer)
      ? "Give the optimizer the schedule's peak as its learningRate."
      : "Leave learningRate out: a schedule of three rates has its own.",
  );
}

/**
 * Factor of the learning rate at a step (from 0), as in Hugging Face's schedules: step / warm-up during warm-up, then
 * (total - step) / (total - warm-up) for `linear`, or half a cosine over the same interval. For three rates, the rate
 * divided by `peak`.
 * @throws ConfigError for a factor of a schedule of one's own that is negative or not finite.
 */
export function scheduleFactor(step: number, totalSteps: number, schedule: ScheduleOptions | Schedule = {}): number {
  if (typeof schedule === "function") {
    const factor = schedule(step, totalSteps);
    if (Number.isFinite(factor) && factor >= 0) return factor;
    throw new ConfigError(
      `The schedule ${schedule.name} gives ${factor} at step ${step} of ${totalSteps}.`,
      "Return a factor of the learning rate: a number from 0.",
    );
  }
  const warmupSteps = schedule.warmupSteps ?? Math.ceil((schedule.warmupRatio ?? 0) * totalSteps);
  const [first, last] =
    schedule.type === "three_rate" ? [schedule.initial / schedule.peak, schedule.final / schedule.peak] : [0, 0];
  if (step < warmupSteps) return first + ((1 - first) * step) / Math.max(1, warmupSteps);
  if (schedule.type === "constant") return 1;
  const remaining = Math.max(0, totalSteps - step) / Math.max(1, totalSteps - warmupSteps);
  if (schedule.type === "cosine") return 0.5 * (1 + Math.cos(Math.PI * (1 - remaining)));
  return last + (1 - last) * remaining;
}
