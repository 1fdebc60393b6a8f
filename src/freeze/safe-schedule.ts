import * as v from "valibot";
import { ConfigError, FileFormatError } from "../base/errors";
import { checkSchema } from "../io/json";
import type { SensitivityKind } from "../ops/sensitivity";
import { checkOptions, FLAG, FROM_0, oneOf, SHARE, WHOLE_FROM_1 } from "./check-options";
import type { ImportanceReference, RunInfo } from "./policy";

/**
 * What SAFE takes as the importance of a layer's adapter: 1 - CKA, or the gradient sensitivity of its tensors, of one of these
 * kinds.
 */
export type SafeMeasure = "cka" | Exclude<SensitivityKind, "weight">;

/** Every measure. */
export const SAFE_MEASURES: readonly SafeMeasure[] = ["cka", "gradient", "weight_gradient", "gradient_over_weight"];

/** Options of SAFE. What the paper leaves open is an option here, and every run records the values that it used. */
export interface SafeOptions {
  /**
   * "cka": 1 - CKA of the layer's activations on the probe (eq. 2 and 3). The others are gradient sensitivities, which the
   * paper's summary names: a layer's score is the mean, over its tensors and their elements, of the smoothed |g| ("gradient"),
   * |p g| ("weight_gradient") or |g / p| ("gradient_over_weight") times its uncertainty, as AFLoRA and AdaLoRA compute it
   * (decays 0.85 and 0.95). They need no probe and no original model, but two more tensors for each one that learns.
   * Default "cka".
   */
  readonly measure?: SafeMeasure;
  /**
   * What CKA compares a layer's output with; the paper does not say. "original": the same layer of the model without any
   * adapter. Changes accumulate upwards, so that lower layers score lower. "own": the same layer without its own adapter, on
   * the input that it gets with the others, which measures each adapter by itself. Default "original".
   */
  readonly reference?: ImportanceReference;
  /**
   * Final threshold tau_T of eq. 4, on the scale of the scores. The paper gives no value. Default: the quantile that
   * `targetFreezeFraction` names.
   */
  readonly tauT?: number;
  /** Without `tauT`, tau_T is this quantile of the scores at the end of warm-up. Default 0.5. */
  readonly targetFreezeFraction?: number;
  /**
   * Steps between scorings. The schedule's t counts these intervals. Default an epoch; where the run has fewer than ten,
   * a twentieth of the run, since the 5 % rule cannot end a warm-up before the third interval.
   */
  readonly every?: number;
  /** Warm-up ends when every score changes by less than this share. Default 0.05 (the paper's 5 %). */
  readonly settledBelow?: number;
  /** Number of consecutive intervals with such small changes. Default 2 (the paper's "consecutive epochs"). */
  readonly settledFor?: number;
  /**
   * Interval at which warm-up ends at the latest. Default a third of all intervals, or a fifth of those of a short run; but not
   * before the 5 % rule can end it, where that leaves half of the run.
   */
  readonly maxWarmup?: number;
  /**
   * Interval t_f at which the threshold reaches tau_T. Default halfway between the end of warm-up and the end of the run, or,
   * in a run of fewer than ten epochs, the middle of the run.
   */
  readonly rampEnd?: number;
  /** When freezing ends: with the run, as in eq. 4, or once the threshold has reached tau_T, at t_f. Default "end". */
  readonly until?: "end" | "rampEnd";
  /** Scores to compare: those of the current interval ("refresh"), or those at the end of warm-up. Default "refresh". */
  readonly scores?: "refresh" | "warmup";
  /** Whether to subtract column means before CKA, as its definition does. Default true. */
  readonly center?: boolean;
  /**
   * Smallest score that a change is measured against, since a new LoRA scores 0. While no score is above it, no interval
   * counts as settled. Default 1e-4, and 0 for sensitivities.
   */
  readonly floor?: number;
}

/** SAFE's options with defaults filled in, but for those whose default depends on the run. */
export type SafeSettings = Required<Omit<SafeOptions, OpenOption | "reference">> &
  Pick<SafeOptions, OpenOption> & {
    /** Undefined for a measure that compares nothing. */
    readonly reference: ImportanceReference | undefined;
  };
type OpenOption = "tauT" | "every" | "maxWarmup" | "rampEnd";

const ALLOWED = {
  measure: oneOf(SAFE_MEASURES),
  reference: oneOf(["original", "own"]),
  tauT: FROM_0,
  targetFreezeFraction: SHARE,
  every: WHOLE_FROM_1,
  settledBelow: FROM_0,
  settledFor: WHOLE_FROM_1,
  maxWarmup: WHOLE_FROM_1,
  rampEnd: WHOLE_FROM_1,
  until: oneOf(["end", "rampEnd"]),
  scores: oneOf(["refresh", "warmup"]),
  center: FLAG,
  floor: FROM_0,
};

/** @throws ConfigError for options that make no sense. */
export function safeSettings(options: SafeOptions): SafeSettings {
  const isCka = (options.measure ?? "cka") === "cka";
  const settings: SafeSettings = {
    measure: "cka",
    reference: isCka ? "original" : undefined,
    targetFreezeFraction: 0.5,
    settledBelow: 0.05,
    settledFor: 2,
    scores: "refresh",
    until: "end",
    center: true,
    floor: isCka ? 1e-4 : 0,
    ...options,
  };
  checkOptions("safe", settings, ALLOWED);
  const { tauT = 0, reference } = settings;
  if (isCka && tauT > 1) {
    throw new ConfigError(`safe: tauT is ${tauT}.`, "A score is 1 - CKA: give a number from 0 to 1.");
  }
  if (!isCka && reference !== undefined) {
    throw new ConfigError(
      `safe: a ${settings.measure} sensitivity has no reference.`,
      'Leave reference out, or use measure "cka".',
    );
  }
  return settings;
}

/** Runs of fewer epochs are cut into this many intervals, or into steps where they have fewer. */
const FEW_EPOCHS = { epochs: 10, intervals: 20, warmupShare: 1 / 5 } as const;

/** How a run is divided into intervals, after each of which the layers are scored. */
export interface SafeIntervals {
  readonly count: number;
  /** Number of complete intervals after a step. */
  readonly completeAfter: (step: number) => number;
  /** Interval at which warm-up ends at the latest. */
  readonly maxWarmup: number;
  /** Interval at which the threshold reaches tau_T; undefined where it depends on the end of warm-up. */
  readonly rampEnd: number | undefined;
}

/** The intervals of a run, by SAFE's settings and, where these leave it open, by the run's length. */
export function safeIntervals(settings: SafeSettings, { totalSteps, stepsPerEpoch }: RunInfo): SafeIntervals {
  const isShort = settings.every === undefined && totalSteps / stepsPerEpoch < FEW_EPOCHS.epochs;
  const every = settings.every ?? stepsPerEpoch;
  const count = isShort ? Math.min(FEW_EPOCHS.intervals, totalSteps) : Math.floor(totalSteps / every);
  // The first change is known in the second interval.
  const earliestBySettling = settings.settledFor + 1;
  const share = Math.floor(count * (isShort ? FEW_EPOCHS.warmupShare : 1 / 3));
  const least = count >= 2 * earliestBySettling ? earliestBySettling : 1;
  return {
    count,
    completeAfter: (step) => (isShort ? Math.floor((step * count) / totalSteps) : Math.floor(step / every)),
    maxWarmup: settings.maxWarmup ?? Math.max(least, share),
    rampEnd: settings.rampEnd ?? (isShort ? Math.ceil(count / 2) : undefined),
  };
}

/** SAFE's threshold tau_t (Son et al. 2024, eq. 4): 0 before `start`, then rising as 1 - (1 - u)^3 to `tauT` at `end`. */
export function cubicThreshold(t: number, start: number, end: number, tauT: number): number {
  if (t < start) return 0;
  if (t >= end) return tauT;
  return tauT - tauT * (1 - (t - start) / (end - start)) ** 3;
}

/** The p-quantile of some numbers, interpolated linearly between neighbours (NumPy's default). */
export function quantile(values: readonly number[], p: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const position = p * (sorted.length - 1);
  const below = sorted[Math.floor(position)]!;
  const above = sorted[Math.ceil(position)]!;
  return below + (above - below) * (position - Math.floor(position));
}

/** Scores of the adapters, by layer. */
type Scores = ReadonlyMap<number, number>;

const COUNT = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const SCORES = v.array(v.strictTuple([COUNT, v.number()]));
const INTERVAL = v.strictObject({
  interval: COUNT,
  scores: v.record(v.string(), v.number()),
  threshold: v.number(),
  frozen: v.array(COUNT),
});
const SAVED = v.strictObject({
  intervals: COUNT,
  interval: COUNT,
  settled: COUNT,
  start: v.nullable(COUNT),
  tauT: v.number(),
  previous: v.nullable(SCORES),
  warmup: SCORES,
  history: v.array(INTERVAL),
});

/** SAFE's schedule on a sequence of scores, independent of any training: warm-up, threshold, and which layers freeze. */
export class SafeSchedule {
  /** Intervals done. */
  #interval = 0;
  /** Consecutive intervals in which no score changed much. */
  #settled = 0;
  #previous: Scores | undefined;
  /** Scores at the end of warm-up. */
  #warmup: Scores = new Map();
  /** Interval at which warm-up ended; undefined before. */
  #start: number | undefined;
  #tauT = 0;
  #history: v.InferOutput<typeof INTERVAL>[] = [];

  constructor(
    readonly settings: SafeSettings,
    readonly intervals: Pick<SafeIntervals, "count" | "maxWarmup" | "rampEnd">,
  ) {}

  /**
   * A schedule that continues from what `save` returned.
   * @throws FileFormatError for any other value, and for that of a run with other intervals.
   */
  static restore(settings: SafeSettings, intervals: SafeIntervals, value: unknown): SafeSchedule {
    const saved = checkSchema(SAVED, value, "SAFE's schedule in a checkpoint");
    if (saved.intervals !== intervals.count) {
      throw new FileFormatError(
        `SAFE's schedule in the checkpoint has ${saved.intervals} intervals; this run has ${intervals.count}.`,
        "Resume with the safetape that wrote it, or begin a new run.",
      );
    }
    const schedule = new SafeSchedule(settings, intervals);
    schedule.#interval = saved.interval;
    schedule.#settled = saved.settled;
    schedule.#previous = saved.previous === null ? undefined : new Map(saved.previous);
    schedule.#warmup = new Map(saved.warmup);
    schedule.#start = saved.start ?? undefined;
    schedule.#tauT = saved.tauT;
    schedule.#history = saved.history;
    return schedule;
  }

  /** Past decisions and everything that the next ones depend on, as plain JSON. */
  save(): v.InferOutput<typeof SAVED> {
    return {
      intervals: this.intervals.count,
      interval: this.#interval,
      settled: this.#settled,
      start: this.#start ?? null,
      tauT: this.#tauT,
      warmup: [...this.#warmup],
      history: [...this.#history],
      previous: this.#previous ? [...this.#previous] : null,
    };
  }

  /**
   * Completes the next interval.
   * @param scores of the live adapters.
   * @returns the layers whose adapters freeze now.
   */
  next(scores: Scores): number[] {
    this.#interval++;
    if (this.#start === undefined) this.#continueWarmup(scores);
    const threshold = this.threshold;
    const compared = this.settings.scores === "warmup" && this.#start !== undefined ? this.#warmup : scores;
    const frozen = [...scores.keys()].filter((layer) => (compared.get(layer) ?? Infinity) < threshold);
    this.#history.push({ interval: this.#interval, scores: Object.fromEntries(scores), threshold, frozen });
    this.#previous = scores;
    return frozen;
  }

  /** Whether nothing freezes any more, whatever the scores. */
  get isOver(): boolean {
    if (this.settings.until === "end" || this.#start === undefined) return false;
    return this.#interval >= this.#end(this.#start);
  }

  /** tau_t of the current interval. */
  get threshold(): number {
    if (this.#start === undefined) return 0;
    return cubicThreshold(this.#interval, this.#start, this.#end(this.#start), this.#tauT);
  }

  #continueWarmup(scores: Scores): void {
    const { settledBelow, settledFor, targetFreezeFraction, tauT, floor } = this.settings;
    // Adapters that still are as new have not settled.
    const hasBegun = [...scores.values()].some((score) => score > floor);
    this.#settled = hasBegun && this.#largestChange(scores) < settledBelow ? this.#settled + 1 : 0;
    if (this.#settled < settledFor && this.#interval < this.intervals.maxWarmup) return;
    this.#start = this.#interval;
    this.#warmup = scores;
    this.#tauT = tauT ?? quantile([...scores.values()], targetFreezeFraction);
  }

  /** Largest relative change of any score since the previous interval; infinite in the first one. */
  #largestChange(scores: Scores): number {
    if (!this.#previous) return Infinity;
    const changes = [...scores].map(([layer, score]) => {
      const before = this.#previous?.get(layer) ?? 0;
      return Math.abs(score - before) / Math.max(before, this.settings.floor);
    });
    return Math.max(0, ...changes);
  }

  #end(start: number): number {
    const { rampEnd, count } = this.intervals;
    return Math.max(start + 1, rampEnd ?? start + Math.ceil((count - start) / 2));
  }

  /**
   * What to tell the user after the run: that nothing froze, or less than asked; undefined where all is as asked.
   * @param live number of layers whose adapters still learn.
   */
  remark(live: number): string | undefined {
    const { tauT, targetFreezeFraction, until } = this.settings;
    const [first] = this.#history;
    if (!first) return "safe() froze nothing: no layer was scored. Use an adapter of the layers, or a smaller `every`.";
    const scored = Object.keys(first.scores).length;
    // As many scores lie below this quantile.
    const asked = tauT === undefined ? Math.ceil(targetFreezeFraction * (scored - 1)) : 1;
    const frozen = scored - live;
    if (frozen >= asked) return undefined;
    const share = tauT === undefined ? `${frozen || "none"} of the ${asked} layers that it was asked for` : "nothing";
    if (this.#start === undefined || this.#start === this.#interval) {
      return `safe() froze ${share}: warm-up took all ${this.#interval} intervals. Give a smaller maxWarmup or \`every\`.`;
    }
    if (tauT !== undefined)
      return `safe() froze nothing: no score fell below tauT ${tauT}. Give a larger one, or a share.`;
    const remedy = `scores: "warmup"${until === "end" ? "" : ', until: "end"'}, or a larger targetFreezeFraction`;
    return `safe() froze ${share}: scores rose above the threshold after warm-up. Give ${remedy}.`;
  }

  /** Everything that was decided, for the run's record. */
  record(): Record<string, unknown> {
    const start = this.#start;
    return {
      intervals: this.intervals.count,
      maxWarmup: this.intervals.maxWarmup,
      warmupEnd: start,
      rampEnd: start === undefined ? undefined : this.#end(start),
      tauT: start === undefined ? this.settings.tauT : this.#tauT,
      history: this.#history,
    };
  }
}
