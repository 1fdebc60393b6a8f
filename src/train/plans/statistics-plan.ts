import { ConfigError } from "../../base/errors";
import type { TensorSpec } from "../../op/declaration";
import type { Limits } from "../../op/limits";
import { productMean } from "../../ops/product_mean";
import { sensitivity } from "../../ops/sensitivity";
import type { Statistics } from "../../ops/shared/statistics";
import type { Inputs } from "../../run/executor";
import { plan } from "../../tape/plan";
import type { Plan } from "../../tape/plan";
import { Recorder } from "../../tape/tape";
import type { TrainerOptions } from "../options";
import { gradientName, statisticsNames, windowAverageName } from "../tensors/names";

/** Inputs of the statistics plan in a step, counted from 0. */
export function statisticsInputs({ window }: Statistics, step: number): Inputs {
  return window ? { phase: Float32Array.of(step % window) } : {};
}

/**
 * The statistics of gradients that a run collects, for its adapter or its policy; undefined where neither needs any.
 * @throws ConfigError where both need some.
 */
export function statisticsOf({ adapter, policy }: Pick<TrainerOptions, "adapter" | "policy">): Statistics | undefined {
  const policyStatistics = policy?.kind === "freezing" ? policy.statistics : undefined;
  if (adapter.statistics && policy && policyStatistics) {
    throw new ConfigError(
      `The adapter ${adapter.kind} and the policy ${policy.name} both collect statistics of gradients.`,
      "Use the adapter with another policy, for example never() or safe().",
    );
  }
  return adapter.statistics ?? policyStatistics;
}

/** The plan that updates the statistics of live tensors from their gradients; undefined where there are none. */
export function statisticsPlan(
  live: ReadonlyMap<string, TensorSpec>,
  statistics: Statistics | undefined,
  limits: Limits,
): Plan | undefined {
  const tensors = [...live].filter(([name]) => statistics?.applies(name));
  if (!statistics || tensors.length === 0) return undefined;
  const { kind, beta1, beta2, window } = statistics;
  const recorder = new Recorder();
  for (const [name, { shape }] of tensors) {
    const [mean, uncertainty] = statisticsNames(name);
    const inputs = {
      p: recorder.parameter(name, shape),
      g: recorder.parameter(gradientName(name), shape),
      mean: recorder.parameter(mean, shape),
      uncertainty: recorder.parameter(uncertainty, shape),
      average: window ? recorder.parameter(windowAverageName(name), shape) : undefined,
      phase: window ? recorder.input("phase", [1]) : undefined,
    };
    recorder.labelled(name, () => recorder.record(sensitivity, inputs, { kind, beta1, beta2 }));
  }
  return plan(recorder, { outputs: {}, effects: true, limits });
}

/** The plan whose outputs are the scores [1] of tensors with statistics: the mean of sensitivity times uncertainty. */
export function scorePlan(tensors: ReadonlyMap<string, TensorSpec>, limits: Limits): Plan {
  const recorder = new Recorder();
  const outputs = Object.fromEntries(
    [...tensors].map(([name, { shape }]) => {
      const [mean, uncertainty] = statisticsNames(name).map((key) => recorder.parameter(key, shape));
      return [name, recorder.apply(productMean, { a: mean, b: uncertainty }, {})] as const;
    }),
  );
  return plan(recorder, { outputs, limits });
}
