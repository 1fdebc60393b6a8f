import * as v from "valibot";
import { occurs, patternText } from "../base/regexp";
import { checkSchema } from "../io/json";
import { SENSITIVITY_KINDS } from "../ops/sensitivity";
import type { SensitivityKind } from "../ops/sensitivity";
import type { Statistics } from "../ops/shared/statistics";
import { AfloraSchedule, belowThreshold, publishedFraction } from "./aflora-schedule";
import type { AfloraSpan, UnitOf } from "./aflora-schedule";
import { checkOptions, WHOLE_FROM_1, FLAG, FROM_0, oneOf, SHARE } from "./check-options";
import type { FreezePolicy, FreezePolicyState } from "./policy";

export interface AfloraPolicyOptions {
  /**
   * "paper", or "published_code", which differs in four ways: |gradient| is averaged over windows of ten steps before it is
   * smoothed, weights of 0 count as insensitive, decisions are ten steps apart, and every matrix freezes whose mean score is
   * below a threshold over the elements of all matrices. Default "paper".
   */
  readonly mode?: "paper" | "published_code";
  /** Epochs t_i before the first freeze. Default 1. */
  readonly initialEpochs?: number;
  /** Share t_f of all steps, at the end, in which all matrices are frozen. Default 0.7. */
  readonly finalShare?: number;
  /**
   * What is smoothed, for a weight p with gradient g: |g|, |p g|, |g / p| (0 where p is 0), or |p|. Default "gradient" as in
   * the paper; the next two are its ablation (figure 4), and |p| is in its published code.
   */
  readonly sensitivity?: SensitivityKind;
  /**
   * Whether A and B of a module freeze together, by the mean of their two scores. Default false: each by its own. Together is
   * the paper's ablation (table 6).
   */
  readonly simultaneous?: boolean;
  /** Share of the past in the smoothed sensitivity. Default 0.85. */
  readonly beta1?: number;
  /** Share of the past in its uncertainty. Default 0.95. */
  readonly beta2?: number;
  /** Steps between decisions. Default 1 as in the paper; 10 as in the published code. */
  readonly every?: number;
  /** Names of the tensors that may freeze. Default every A and B of a low-rank adapter. */
  readonly tensors?: RegExp;
}

const ALLOWED = {
  mode: oneOf(["paper", "published_code"]),
  initialEpochs: FROM_0,
  finalShare: SHARE,
  sensitivity: oneOf(SENSITIVITY_KINDS),
  simultaneous: FLAG,
  beta1: SHARE,
  beta2: SHARE,
  every: WHOLE_FROM_1,
};

/** The end of the name of an A or a B. What is before it is the name of its module. */
const MATRIX = /\.(?:aflora|lora)_[AB](?:\.weight)?$/;

/**
 * AFLoRA's freezing (Liu et al. 2024, section 3, eq. 2 to 5): the score of a projection matrix is the mean of its smoothed
 * |gradient| times its uncertainty. A cubic schedule says which share of the matrices to freeze, lowest scores first, A and
 * B of one module independently. The vectors learn throughout.
 *
 * Saves gradients, moments and both statistics of frozen matrices. A frozen A also frees the projection's input, a frozen B
 * only rank-wide values. The horizon stays where the lowest vector learns. The statistics cost two more tensors for each
 * live matrix, three with the published code's window.
 * @throws ConfigError for options that make no sense. A run that trains none of the tensors is refused.
 */
export function afloraFreezing(options: AfloraPolicyOptions = {}): FreezePolicy {
  const isPublished = options.mode === "published_code";
  const { tensors = MATRIX, ...others } = options;
  checkOptions("aflora", others, ALLOWED);
  const settings = {
    mode: "paper" as const,
    initialEpochs: 1,
    finalShare: 0.7,
    sensitivity: "gradient" as const,
    simultaneous: false,
    beta1: 0.85,
    beta2: 0.95,
    every: isPublished ? WINDOW : 1,
    ...others,
    tensors: patternText(tensors),
  };
  const { initialEpochs, finalShare, sensitivity: kind, simultaneous, beta1, beta2, every } = settings;
  const applies = (name: string): boolean => occurs(tensors, name);
  const unitOf: UnitOf = (name) => (simultaneous ? name.replace(MATRIX, "") : name);
  const statistics: Statistics = {
    kind,
    beta1,
    beta2,
    when: "before_update",
    applies,
  };
  return {
    kind: "freezing",
    name: "aflora",
    settings,
    mayFreeze: ({ name }) => applies(name),
    statistics: isPublished ? { ...statistics, window: WINDOW } : statistics,
    start({ totalSteps, stepsPerEpoch }) {
      const span = { start: initialEpochs * stepsPerEpoch, end: totalSteps * (1 - finalShare) };
      return isPublished ? asPublished(span, every, unitOf) : asInPaper(span, every, unitOf);
    },
  };
}

/** Steps in a window of the published code. */
const WINDOW = 10;

const levelOf = (value: number) => ({ name: "share to be frozen", value });

function asInPaper(span: AfloraSpan, every: number, unitOf: UnitOf): FreezePolicyState {
  let schedule = new AfloraSchedule(span, unitOf);
  return {
    isDue: ({ step }) => step > 0 && step % every === 0,
    async decide({ step, sensitivity }) {
      return schedule.fraction(step) === 0 ? [] : schedule.next(step, await sensitivity());
    },
    level: ({ step }) => levelOf(schedule.fraction(step)),
    record: () => schedule.record(),
    save: () => schedule.save(),
    restore(saved) {
      if (saved !== null) schedule = AfloraSchedule.restore(saved, unitOf);
    },
  };
}

const HISTORY = v.array(v.strictObject({ step: v.number(), frozen: v.array(v.string()) }));

/**
 * The published code decides between gradients and update, and what it freezes still takes that update. Here the decision
 * follows the update, when one more step is done: its step t is our t + 1.
 */
function asPublished(span: AfloraSpan, every: number, unitOf: UnitOf): FreezePolicyState {
  let history: { step: number; frozen: readonly string[] }[] = [];
  return {
    isDue({ step }) {
      const published = step - 1;
      return published > span.start && (published > span.end || published % every === 0);
    },
    async decide({ step, elementSensitivity }) {
      const frozen = belowThreshold(await elementSensitivity(), publishedFraction(step - 1, span), unitOf);
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
