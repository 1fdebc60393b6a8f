import { ConfigError } from "../base/errors";
import { ADAMW_HYPER_SIZE, adamw, adamwHyper } from "../ops/adamw";
import type { Optimizer } from "./optimizer";
import { checkSettings, commonSettings } from "./settings";
import type { CommonOptions } from "./settings";

/** AdamW as in PyTorch (Loshchilov and Hutter 2019): decoupled weight decay, eps outside the root. `learningRate` is 1e-3 by default. */
export interface OptimizerOptions extends CommonOptions {
  /** Default [0.9, 0.999]. */
  readonly betas?: readonly [number, number];
  /** Default 1e-8. */
  readonly eps?: number;
}

/** AdamW. @throws ConfigError for negative or infinite values, or betas that are not below 1. */
export function adamW({ betas = [0.9, 0.999], eps = 1e-8, ...common }: OptimizerOptions = {}): Optimizer {
  const settings = { ...commonSettings(common, 1e-3), betas, eps };
  checkSettings(settings, { eps }, { betas });
  const { maxGradNorm: maxNorm } = settings;
  const [beta1, beta2] = betas;
  return {
    name: "adamw",
    settings,
    isElementwise: true,
    state: (shape) => ({ "first moment": shape, "second moment": shape }),
    hyperSize: ADAMW_HYPER_SIZE,
    hyper: ({ learningRate, step }) => adamwHyper({ learningRate, beta1, beta2, epsilon: eps, step, maxNorm }),
    update(recorder, { state, ...tensors }, { weightDecay }) {
      recorder.record(adamw, { ...tensors, m: state["first moment"]!, v: state["second moment"]! }, { weightDecay });
    },
  };
}

/** An optimizer, or AdamW with some options. @throws ConfigError for anything else, and as `adamW`. */
export function optimizerOf(given: Optimizer | OptimizerOptions = {}): Optimizer {
  const value: unknown = given;
  if (typeof value !== "object" || value === null) {
    throw new ConfigError(
      `The optimizer is ${JSON.stringify(value)}.`,
      "Give an optimizer, such as sgd(), or options of AdamW.",
    );
  }
  return isOptimizer(given) ? given : adamW(given);
}

/** Whether this is an optimizer rather than options of AdamW. */
export function isOptimizer(given: Optimizer | OptimizerOptions): given is Optimizer {
  return "update" in given;
}
