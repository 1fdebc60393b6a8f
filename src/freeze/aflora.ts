import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { checkSchema } from "../io/json";
import type { SensitivityKind } from "../ops/sensitivity";
import type { Statistics } from "../ops/shared/statistics";
import { AfloraSchedule, belowThreshold, publishedFraction } from "./aflora-schedule";
import type { AfloraSpan } from "./aflora-schedule";
import type { FreezePolicy, FreezePolicyState } from "./policy";

export interface AfloraPolicyOptions {
  /**
   * "paper", or "published_code": |gradient| averaged over windows of ten steps before it is smoothed, weights of 0 counted
   * as insensitive, decisions every ten steps, and all matrices frozen whose mean lies below a threshold over the elements
   * of all of them. Default "paper".
   */
  readonly mode?: "paper" | "published_code";
  /** Epochs t_i before the first freeze. Default 1. */
  readonly initialEpochs?: number;
  /** Share of all steps, at the end, in which everything is frozen (t_f). Default 0.7. */
  readonly finalShare?: number;
  /** What the score is taken from; the paper's choice is "gradient", the others are its ablation. */
  readonly sensitivity?: SensitivityKind;
  /** Default 0.85 and 0.95. */
  readonly beta1?: number;
  readonly beta2?: number;
  /** Steps between decisions. Default 1 as in the paper, 10 as in the published code. */
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
 * more tensors for each live matrix; the published code's window a third.
 * @throws ConfigError for options that make no sense.
 */
export function afloraFreezing(options: AfloraPolicyOptions = {}): FreezePolicy {
  const isPublished = options.mode === "published_code";
  const { tensors = /(?:aflora|lora)_[AB](?:\.weight)?$/, ...others } = options;
  const settings = {
    mode: "paper" as const,
    initialEpochs: 1,
    finalShare: 0.7,
    sensitivity: "gradient" as const,
    beta1: 0.85,
    beta2: 0.95,
    every: isPublished ? WINDOW : 1,
    ...others,
    tensors: tensors.source,
  };
  const { mode, initialEpochs, finalShare, sensitivity: kind, beta1, beta2, every } = settings;
  const isShare = [finalShare, beta1, beta2].every((value) => value >= 0 && value <= 1);
  const isMode = ["paper", "published_code"].includes(mode);
  if (!isShare || !isMode || !(initialEpochs >= 0) || !Number.isInteger(every) || every < 1) {
    throw new ConfigError(
      `aflora: mode ${mode}, initialEpochs ${initialEpochs}, finalShare ${finalShare}, beta1 ${beta1}, beta2 ${beta2}, every ${every} make no schedule.`,
      "Give paper or published_code, shares and betas from 0 to 1, epochs from 0, and a whole number of steps.",
    );
  }
  const statistics: Statistics = {
    kind,
    beta1,
    beta2,
    when: "before_update",
    applies: (name) => tensors.test(name),
  };
  return {
    kind: "freezing",
    name: "aflora",
    settings,
    statistics: isPublished ? { ...statistics, window: WINDOW } : statistics,
    start({ totalSteps, stepsPerEpoch }) {
      const span = { start: initialEpochs * stepsPerEpoch, end: totalSteps * (1 - finalShare) };
      return isPublished ? asPublished(span, every) : asInPaper(span, every);
    },
  };
}

/** Steps of the published code's windows. */
const WINDOW = 10;

const levelOf = (value: number) => ({ name: "share to be frozen", value });

function asInPaper(span: AfloraSpan, every: number): FreezePolicyState {
  let schedule = new AfloraSchedule(span);
  return {
    isDue: ({ step }) => step > 0 && step % every === 0,
    async decide({ step, sensitivity }) {
      return schedule.fraction(step) === 0 ? [] : schedule.next(step, await sensitivity());
    },
    level: ({ step }) => levelOf(schedule.fraction(step)),
    record: () => schedule.record(),
    save: () => schedule.save(),
    restore(saved) {
      if (saved !== null) schedule = AfloraSchedule.restore(saved);
    },
  };
}

const HISTORY = v.array(v.strictObject({ step: v.number(), frozen: v.array(v.string()) }));

/**
 * The published code decides between the gradients and the update of a step, here after that update: what it freezes there
 * still takes the update, and its step is the one before ours.
 */
function asPublished(span: AfloraSpan, every: number): FreezePolicyState {
  let history: { step: number; frozen: readonly string[] }[] = [];
  return {
    isDue({ step }) {
      const theirs = step - 1;
      return theirs > span.start && (theirs > span.end || theirs % every === 0);
    },
    async decide({ step, elementSensitivity }) {
      const frozen = belowThreshold(await elementSensitivity(), publishedFraction(step - 1, span));
      if (frozen.length > 0) history.push({ step, frozen });
      return frozen;
    },
    level: ({ step }) => levelOf(publishedFraction(Math.max(0, step - 1), span)),
    record: () => ({ history }),
    save: () => [...history],
    restore(saved) {
      history = checkSchema(HISTORY, saved, "AFLoRA's history in a checkpoint");
    },
  };
}
