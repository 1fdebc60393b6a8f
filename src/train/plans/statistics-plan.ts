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

/** Inputs of a statistics plan in a step, from 0. */
export function statisticsInputs({ window }: Statistics, step: number): Inputs {
  return window ? { phase: Float32Array.of(step % window) } : {};
}

/** What a run is to follow. @throws ConfigError when the adapter and the policy each want their own. */
export function statisticsOf({ adapter, policy }: Pick<TrainerOptions, "adapter" | "policy">): Statistics | undefined {
  const wanted = policy?.kind === "freezing" ? policy.statistics : undefined;
  if (adapter.statistics && policy && wanted) {
    throw new ConfigError(
      `The adapter ${adapter.kind} and the policy ${policy.name} both follow gradients.`,
      "Use the adapter with another policy, as never() or safe().",
    );
  }
  return adapter.statistics ?? wanted;
}

/** The plan that brings the statistics up to date; undefined where nothing is followed. */
export function statisticsPlan(
  live: ReadonlyMap<string, TensorSpec>,
  statistics: Statistics | undefined,
  limits: Limits,
): Plan | undefined {
  const followed = [...live].filter(([name]) => statistics?.applies(name));
  if (!statistics || followed.length === 0) return undefined;
  const { kind, beta1, beta2, window } = statistics;
  const recorder = new Recorder();
  for (const [name, { shape }] of followed) {
    const [mean, uncertainty] = statisticsNames(name).map((own) => recorder.parameter(own, shape));
    const inputs = { p: recorder.parameter(name, shape), g: recorder.parameter(gradientName(name), shape) };
    const windowed = window && {
      average: recorder.parameter(windowAverageName(name), shape),
      phase: recorder.input("phase", [1]),
    };
    recorder.labelled(name, () =>
      recorder.record(sensitivity, { ...inputs, mean, uncertainty, ...windowed }, { kind, beta1, beta2 }),
    );
  }
  return plan(recorder, { outputs: {}, effects: true, limits });
}

/** The plan whose outputs are each followed tensor's score: the mean of sensitivity times uncertainty. */
export function scorePlan(names: ReadonlyMap<string, TensorSpec>, limits: Limits): Plan {
  const recorder = new Recorder();
  const outputs = Object.fromEntries(
    [...names].map(([name, { shape }]) => {
      const [a, b] = statisticsNames(name).map((own) => recorder.parameter(own, shape));
      return [name, recorder.apply(productMean, { a, b }, {})] as const;
    }),
  );
  return plan(recorder, { outputs, limits });
}
