import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { checkSchema } from "../io/json";
import type { SensitivityKind } from "../ops/sensitivity";
import { AfloraSchedule, belowThreshold, publishedFraction } from "./aflora-schedule";
import type { AfloraSpan } from "./aflora-schedule";
import type { FreezePolicy, Progress } from "./policy";

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
  const settings = {
    mode: "paper" as const,
    initialEpochs: 1,
    finalShare: 0.7,
    sensitivity: "gradient" as const,
    beta1: 0.85,
    beta2: 0.95,
    every: isPublished ? WINDOW : 1,
    ...options,
  };
  const { mode, initialEpochs, finalShare, beta1, beta2, every } = settings;
  const isShare = [finalShare, beta1, beta2].every((value) => value >= 0 && value <= 1);
  const isMode = ["paper", "published_code"].includes(mode);
  if (!isShare || !isMode || !(initialEpochs >= 0) || !Number.isInteger(every) || every < 1) {
    throw new ConfigError(
      `aflora: mode ${mode}, initialEpochs ${initialEpochs}, finalShare ${finalShare}, beta1 ${beta1}, beta2 ${beta2}, every ${every} make no schedule.`,
      "Give paper or published_code, shares and betas from 0 to 1, epochs from 0, and a whole number of steps.",
    );
  }
  const pattern = options.tensors ?? /(?:aflora|lora)_[AB](?:\.weight)?$/;
  const statistics = {
    kind: settings.sensitivity,
    beta1,
    beta2,
    when: "before_update" as const,
    applies: (name: string) => pattern.test(name),
  };
  const { share, ...scheduled } = isPublished ? publishedCode(settings) : paper(settings);
  return {
    name: "aflora",
    statistics: isPublished ? { ...statistics, window: WINDOW } : statistics,
    ...scheduled,
    level: (progress) => ({ name: "share to be frozen", value: share(progress) }),
    settings: { ...settings, tensors: pattern.source },
    record: () => ({ ...settings, tensors: pattern.source, ...scheduled.record() }),
  };
}

/** Steps of the published code's windows. */
const WINDOW = 10;

type Settings = Required<Pick<AfloraPolicyOptions, "initialEpochs" | "finalShare" | "every">>;
type Scheduled = Pick<FreezePolicy, "isDue" | "decide" | "record" | "save" | "restore"> & {
  readonly share: (progress: Progress) => number;
};
const HISTORY = v.array(v.strictObject({ step: v.number(), frozen: v.array(v.string()) }));

function paper({ initialEpochs, finalShare, every }: Settings): Scheduled {
  let schedule: AfloraSchedule | undefined;
  const scheduleOf = ({ stepsPerEpoch, totalSteps }: Progress): AfloraSchedule =>
    (schedule ??= new AfloraSchedule({ start: initialEpochs * stepsPerEpoch, end: totalSteps * (1 - finalShare) }));
  return {
    isDue: ({ step }) => step > 0 && step % every === 0,
    async decide(context) {
      const { step } = context;
      const own = scheduleOf(context);
      return own.fraction(step) === 0 ? [] : own.next(step, await context.sensitivity());
    },
    share: (progress) => scheduleOf(progress).fraction(progress.step),
    record: () => schedule?.record() ?? {},
    save: () => schedule?.save() ?? null,
    restore: (saved) => (schedule = saved === null ? undefined : AfloraSchedule.restore(saved)),
  };
}

/** Decisions fall between a step's gradients and its update there, so that what they freeze still takes that update. */
function publishedCode({ initialEpochs, finalShare, every }: Settings): Scheduled {
  let history: { step: number; frozen: readonly string[] }[] = [];
  const spanOf = ({ stepsPerEpoch, totalSteps }: Progress): AfloraSpan => {
    return { start: initialEpochs * stepsPerEpoch, end: totalSteps * (1 - finalShare) };
  };
  return {
    isDue(progress) {
      const now = progress.step - 1;
      const { start, end } = spanOf(progress);
      return now > start && (now > end || now % every === 0);
    },
    async decide(context) {
      const now = context.step - 1;
      const frozen = belowThreshold(await context.elementSensitivity(), publishedFraction(now, spanOf(context)));
      if (frozen.length > 0) history.push({ step: context.step, frozen });
      return frozen;
    },
    share: (progress) => publishedFraction(Math.max(0, progress.step - 1), spanOf(progress)),
    record: () => ({ history }),
    save: () => [...history],
    restore: (saved) => (history = checkSchema(HISTORY, saved, "AFLoRA's history in a checkpoint")),
  };
}
