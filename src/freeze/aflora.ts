import { ConfigError } from "../base/errors";
import type { SensitivityKind } from "../ops/sensitivity";
import { AfloraSchedule } from "./aflora-schedule";
import type { FreezePolicy } from "./policy";

export interface AfloraPolicyOptions {
  /** Epochs t_i before the first freeze. Default 1. */
  readonly initialEpochs?: number;
  /** Share of all steps, at the end, in which everything is frozen (t_f). Default 0.7. */
  readonly finalShare?: number;
  /** What the score is taken from; the paper's choice is "gradient", the others are its ablation. */
  readonly sensitivity?: SensitivityKind;
  /** Default 0.85 and 0.95. */
  readonly beta1?: number;
  readonly beta2?: number;
  /** Steps between decisions. Default 1 as in the paper; the published code decides every 10 steps. */
  readonly every?: number;
  /** Tensors that may freeze, by name; default every A and B of a low-rank adapter. */
  readonly tensors?: RegExp;
}

/**
 * AFLoRA's freezing (Liu et al. 2024, section 3, eq. 2 to 5): each projection matrix scores by the mean of smoothed
 * |gradient| times its uncertainty; a cubic schedule says which share of them is to be frozen, lowest scores first, A and
 * B of one module independently. The vectors learn throughout.
 *
 * Saves: gradients, moments and both statistics of what is frozen. A frozen A also frees the projection's whole input, a
 * frozen B only rank-wide values. The horizon stays where the lowest vector learns. While it runs, the statistics cost two
 * more tensors for each live matrix.
 *
 * The published code differs: it averages |gradient| over windows of ten steps, counts weights of 0 as insensitive, and
 * compares means against a threshold over elements.
 * @throws ConfigError for options that make no sense.
 */
export function afloraFreezing(options: AfloraPolicyOptions = {}): FreezePolicy {
  const settings = {
    ...{ initialEpochs: 1, finalShare: 0.7, sensitivity: "gradient" as const, beta1: 0.85, beta2: 0.95, every: 1 },
    ...options,
  };
  const { initialEpochs, finalShare, beta1, beta2, every } = settings;
  const isShare = [finalShare, beta1, beta2].every((value) => value >= 0 && value <= 1);
  if (!isShare || !(initialEpochs >= 0) || !Number.isInteger(every) || every < 1) {
    throw new ConfigError(
      `aflora: initialEpochs ${initialEpochs}, finalShare ${finalShare}, beta1 ${beta1}, beta2 ${beta2}, every ${every} make no schedule.`,
      "Give shares and betas from 0 to 1, epochs from 0, and a whole number of steps.",
    );
  }
  const pattern = options.tensors ?? /(?:aflora|lora)_[AB](?:\.weight)?$/;
  let schedule: AfloraSchedule | undefined;
  return {
    name: "aflora",
    statistics: {
      ...{ kind: settings.sensitivity, beta1, beta2, when: "before_update" },
      applies: (name) => pattern.test(name),
    },
    isDue: ({ step }) => step > 0 && step % every === 0,
    async decide(context) {
      schedule ??= new AfloraSchedule({
        start: initialEpochs * context.stepsPerEpoch,
        end: context.totalSteps * (1 - finalShare),
      });
      if (schedule.fraction(context.step) === 0) return [];
      return schedule.next(context.step, await context.sensitivity());
    },
    record: () => ({ ...settings, tensors: pattern.source, ...schedule?.record() }),
  };
}
