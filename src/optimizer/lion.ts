import { LION_HYPER_SIZE, lion as lionOp } from "../ops/lion";
import type { Optimizer } from "./optimizer";
import { checkSettings, commonSettings } from "./settings";
import type { CommonOptions } from "./settings";

/**
 * Lion (Chen et al. 2023), with decoupled weight decay. `learningRate` is 1e-4 by default; the paper takes rates 3 to 10 times
 * smaller than AdamW's, and decays as many times larger.
 */
export interface LionOptions extends CommonOptions {
  /** Default [0.9, 0.99]. */
  readonly betas?: readonly [number, number];
}

/** Lion: half the state of AdamW. @throws ConfigError for negative or infinite values, or betas that are not below 1. */
export function lion({ betas = [0.9, 0.99], ...common }: LionOptions = {}): Optimizer {
  const settings = { ...commonSettings(common, 1e-4), betas };
  checkSettings(settings, {}, { betas });
  return {
    name: "lion",
    settings,
    isElementwise: true,
    state: (shape) => ({ momentum: shape }),
    hyperSize: LION_HYPER_SIZE,
    hyper: ({ learningRate }) => Float32Array.of(learningRate, 1 - betas[0], 1 - betas[1], settings.maxGradNorm),
    update(recorder, { state, ...tensors }, { weightDecay }) {
      recorder.record(lionOp, { ...tensors, m: state["momentum"]! }, { weightDecay });
    },
  };
}
