import { ConfigError } from "../base/errors";
import { SGD_HYPER_SIZE, sgd as sgdOp } from "../ops/sgd";
import type { Optimizer } from "./optimizer";
import { checkSettings, commonSettings } from "./settings";
import type { CommonOptions } from "./settings";

/** SGD as in PyTorch; weight decay is an L2 penalty. `learningRate` is 1e-3 by default. */
export interface SgdOptions extends CommonOptions {
  /** Share of the velocity that stays from step to step, below 1. With 0 there is no velocity, and no state. Default 0. */
  readonly momentum?: number;
  /** Share by which a gradient enters the velocity less, after the first step; at most 1. Default 0. */
  readonly dampening?: number;
  /** Nesterov's momentum, which needs momentum and no dampening. Default false. */
  readonly nesterov?: boolean;
}

/**
 * Stochastic gradient descent.
 * @throws ConfigError for negative or infinite values, momentum from 1, dampening above 1, and Nesterov's momentum without
 * momentum or with dampening.
 */
export function sgd({ momentum = 0, dampening = 0, nesterov = false, ...common }: SgdOptions = {}): Optimizer {
  const settings = { ...commonSettings(common, 1e-3), momentum, dampening, nesterov };
  checkSettings(settings, { dampening }, { momentum });
  if (dampening > 1 || (nesterov && (momentum === 0 || dampening > 0))) {
    throw new ConfigError(
      `SGD has momentum ${momentum}, dampening ${dampening}, nesterov ${nesterov}.`,
      "Give a dampening of at most 1; Nesterov's needs momentum, and no dampening.",
    );
  }
  return {
    name: "sgd",
    settings,
    isElementwise: true,
    state: (shape) => (momentum > 0 ? { velocity: shape } : {}),
    hyperSize: SGD_HYPER_SIZE,
    hyper: ({ learningRate, step }) =>
      Float32Array.of(learningRate, step === 1 ? 1 : 1 - dampening, settings.maxGradNorm),
    update(recorder, { state, ...tensors }, { weightDecay }) {
      recorder.record(sgdOp, { ...tensors, m: state["velocity"] }, { weightDecay, momentum, nesterov });
    },
  };
}
