import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { checkSchema } from "../io/json";

/** Options of SAFE. What the paper leaves open is an option here, and every run records the values that it used. */
export interface SafeOptions {
  /**
   * Final threshold tau_T of eq. 4, on the scale of the scores (1 - CKA). The paper gives no value. Default: the quantile
   * that `targetFreezeFraction` names.
   */
  readonly tauT?: number;
  /** Without `tauT`, tau_T is this quantile of the scores at the end of warm-up. Default 0.5. */
  readonly targetFreezeFraction?: number;
  /** Steps between scorings. The schedule's t counts these intervals. Default an epoch. */
  readonly every?: number;
  /** Warm-up ends when every score changes by less than this share. Default 0.05 (the paper's 5 %). */
  readonly settledBelow?: number;
  /** Number of consecutive intervals with such small changes. Default 2 (the paper's "consecutive epochs"). */
  readonly settledFor?: number;
  /** Interval at which warm-up ends at the latest. Default a third of all intervals. */
  readonly maxWarmup?: number;
  /** Interval t_f at which the threshold reaches tau_T. Default halfway between the end of warm-up and the end of the run. */
  readonly rampEnd?: number;
  /** Scores to compare: those of the current interval ("refresh"), or those at the end of warm-up. Default "refresh". */
  readonly scores?: "refresh" | "warmup";
  /** Whether to subtract column means before CKA, as its definition does. Default true. */
  readonly center?: boolean;
  /** Smallest score that a change is measured against, since a new LoRA scores 0. Default 1e-4. */
  readonly floor?: number;
}

/** SAFE's options with defaults filled in, but for those whose default depends on the run. */
export type SafeSettings = Required<Omit<SafeOptions, "tauT" | "every" | "maxWarmup" | "rampEnd">> &
  Pick<SafeOptions, "tauT" | "every" | "maxWarmup" | "rampEnd">;

/** @throws ConfigError for options that make no sense. */
export function safeSettings(options: SafeOptions): SafeSettings {
  const settings: SafeSettings = {
    targetFreezeFraction: 0.5,
    settledBelow: 0.05,
    settledFor: 2,
    scores: "refresh",
    center: true,
    floor: 1e-4,
    ...options,
  };
  const { tauT, targetFreezeFraction: fraction } = settings;
  if ((tauT !== undefined && !(tauT >= 0 && tauT <= 1)) || !(fraction >= 0 && fraction <= 1)) {
    throw new ConfigError(
      `safe: tauT ${String(tauT)} and targetFreezeFraction ${fraction} must lie between 0 and 1.`,
      "A score is 1 - CKA; give tauT on that scale, or a share of the adapters.",
    );
  }
  for (const key of ["every", "settledFor", "maxWarmup", "rampEnd"] as const) {
    const value = settings[key];
    if (value !== undefined && !(Number.isInteger(value) && value >= 1)) {
      throw new ConfigError(`safe: ${key} is ${value}.`, "Give a whole number from 1.");
    }
  }
  return settings;
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

  /** @param intervals of the complete run. */
  constructor(
    readonly settings: SafeSettings,
    readonly intervals: number,
  ) {}

  /** A schedule that continues from what `save` returned. @throws FileFormatError for any other value. */
  static restore(settings: SafeSettings, value: unknown): SafeSchedule {
    const saved = checkSchema(SAVED, value, "SAFE's schedule in a checkpoint");
    const schedule = new SafeSchedule(settings, saved.intervals);
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
      intervals: this.intervals,
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

  /** tau_t of the current interval. */
  get threshold(): number {
    if (this.#start === undefined) return 0;
    return cubicThreshold(this.#interval, this.#start, this.#end(this.#start), this.#tauT);
  }

  #continueWarmup(scores: Scores): void {
    const { settledBelow, settledFor, targetFreezeFraction, tauT } = this.settings;
    this.#settled = this.#largestChange(scores) < settledBelow ? this.#settled + 1 : 0;
    const latest = this.settings.maxWarmup ?? Math.max(1, Math.floor(this.intervals / 3));
    if (this.#settled < settledFor && this.#interval < latest) return;
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
    return Math.max(start + 1, this.settings.rampEnd ?? start + Math.ceil((this.intervals - start) / 2));
  }

  /** Everything that was decided, for the run's record. */
  record(): Record<string, unknown> {
    const start = this.#start;
    return {
      intervals: this.intervals,
      warmupEnd: start,
      rampEnd: start === undefined ? undefined : this.#end(start),
      tauT: start === undefined ? this.settings.tauT : this.#tauT,
      history: this.#history,
    };
  }
}
