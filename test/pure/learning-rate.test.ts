import { describe, expect, it } from "vitest";
import { threeRate } from "safetape/engine";
import type { ScheduleOptions, TrainerOptions } from "safetape";
import { scheduleFactor, withScheduledRate } from "../../src/train/loop/learning-rate";

const factors = (totalSteps: number, schedule?: ScheduleOptions): number[] =>
  Array.from({ length: totalSteps }, (_, step) => scheduleFactor(step, totalSteps, schedule));

describe("the learning rate", () => {
  it.each<[string, ScheduleOptions | undefined, number[]]>([
    ["falls linearly to 0 by default", undefined, [1, 0.8, 0.6, 0.4, 0.2]],
    ["rises in warm-up steps", { warmupSteps: 2 }, [0, 0.5, 1, 2 / 3, 1 / 3]],
    ["rises in a share of the steps, rounded up", { warmupRatio: 0.3 }, [0, 0.5, 1, 2 / 3, 1 / 3]],
    ["stays constant after warm-up", { type: "constant", warmupSteps: 1 }, [0, 1, 1, 1, 1]],
    ["falls along half a cosine", { type: "cosine", warmupSteps: 1 }, [0, 1, (1 + Math.SQRT1_2) / 2, 0.5, 0.14645]],
    // Rates 0.1, 0.25, then from 0.4 to 0.1 over three steps, each divided by 0.4.
    ["goes through three rates", threeRate(0.1, 0.4, 0.1, 2), [0.25, 0.625, 1, 0.75, 0.5]],
    ["starts at the peak without warm-up", threeRate(0.1, 0.4, 0.4, 0), [1, 1, 1, 1, 1]],
  ])("%s", (_, schedule, expected) => {
    const actual = factors(5, schedule);
    for (const [step, factor] of expected.entries()) expect(actual[step], `step ${step}`).toBeCloseTo(factor, 5);
  });

  // The function reads only the schedule and the optimizer.
  const resolved = (options: Partial<TrainerOptions>) => withScheduledRate(options as TrainerOptions);

  it("of the optimizer is the peak of three rates", () => {
    const { optimizer } = resolved({ schedule: threeRate(0, 0.3, 0, 1), optimizer: { weightDecay: 0.1 } });
    expect(optimizer).toEqual({ weightDecay: 0.1, learningRate: 0.3 });
  });

  it.each<[string, Partial<TrainerOptions>, RegExp]>([
    ["negative warm-up", { schedule: { warmupSteps: -1 } }, /warmupSteps -1/],
    ["a warm-up of three runs", { schedule: { warmupRatio: 3 } }, /warmupRatio 3/],
    ["a peak of 0", { schedule: threeRate(0, 0, 0, 1) }, /the rates 0, 0 and 0/],
    ["a rate that is not a number", { schedule: threeRate(NaN, 1, 0, 1) }, /the rates NaN, 1 and 0/],
    [
      "another rate in the optimizer",
      { schedule: threeRate(0, 0.3, 0, 1), optimizer: { learningRate: 0.2 } },
      /learningRate 0.2, and the schedule rises to 0.3/,
    ],
  ])("is refused with %s", (_, options, fact) => {
    expect(() => resolved(options)).toThrow(fact);
  });
});
