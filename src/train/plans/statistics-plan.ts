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
import { trainableSpecs } from "../tensors/specs";

/** Inputs of the statistics plan in a step, counted from 0. */
export function statisticsInputs({ window }: Statistics, step: number): Inputs {
  return window ? { phase: Float32Array.of(step % window) } : {};
}

/** The statistics of gradients that a policy reads; undefined for one that reads none. */
export const policyStatistics = (policy: TrainerOptions["policy"]): Statistics | undefined =>
  policy?.kind === "freezing" ? policy.statistics : undefined;

/**
 * The statistics of gradients that a run collects, for its adapter and its policy.
 * @throws ConfigError where both need some of the same tensor.
 */
export function statisticsOf({ adapter, policy, model }: TrainerOptions): readonly Statistics[] {
  const ofPolicy = policyStatistics(policy);
  const all = [adapter.statistics, ofPolicy].filter((statistics) => statistics !== undefined);
  const names = [...trainableSpecs(model.model, adapter).keys()];
  if (policy && names.some((name) => all.filter(({ applies }) => applies(name)).length > 1)) {
    throw new ConfigError(
      `The adapter ${adapter.kind} and the policy ${policy.name} both collect statistics of gradients.`,
      "Use the adapter with another policy, for example never() or safe().",
    );
  }
  return all;
}

/** The plan that updates statistics of live tensors from their gradients; undefined where there are no such tensors. */
export function statisticsPlan(
  live: ReadonlyMap<string, TensorSpec>,
  { kind, beta1, beta2, window, applies }: Statistics,
  limits: Limits,
): Plan | undefined {
  const tensors = [...live].filter(([name]) => applies(name));
  if (tensors.length === 0) return undefined;
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
      const [mean, uncertainty] = statisticsNames(name);
      const factors = { a: recorder.parameter(mean, shape), b: recorder.parameter(uncertainty, shape) };
      return [name, recorder.apply(productMean, factors, {})] as const;
    }),
  );
  return plan(recorder, { outputs, limits });
}
