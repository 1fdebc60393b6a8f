import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { checkSchema } from "../io/json";

/** Options of SAFE. What the paper leaves open is an option here, and every run records the values used. */
export interface SafeOptions {
  /**
   * Final threshold tau_T of eq. 4. The paper gives no value: a number, or leave it out and say by
   * `targetFreezeFraction` which share of the adapters it is to freeze.
   */
  readonly tauT?: number;
  /** tau_T is this quantile of the scores at the end of warm-up. Default 0.5 where no `tauT` is given. */
  readonly targetFreezeFraction?: number;
  /** Scoring interval in steps; default an epoch. The schedule's t counts these intervals. */
  readonly every?: number;
  /** Warm-up ends when no score changes by more than this share. Default 0.05 (the paper's 5 %). */
  readonly settledBelow?: number;
  /** ... in this many intervals in a row. Default 2 ("consecutive epochs"). */
  readonly settledFor?: number;
  /** Warm-up ends at this interval at the latest. Default a third of all. */
  readonly maxWarmup?: number;
  /** Interval t_f at which the threshold has reached tau_T. Default half way from the end of warm-up to the end. */
  readonly rampEnd?: number;
  /** Scores: anew at every interval for adapters that still learn, or those of the warm-up. Default "refresh". */
  readonly scores?: "refresh" | "warmup";
  /** Subtract column means before CKA, as its definition has it. Default true. */
  readonly center?: boolean;
  /** A change is measured against at least this score, since a fresh LoRA scores 0. Default 1e-4. */
  readonly floor?: number;
}

/** The options with every open choice filled in. */
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
  const { tauT, targetFreezeFraction: share } = settings;
  if ((tauT !== undefined && !(tauT >= 0 && tauT <= 1)) || !(share >= 0 && share <= 1)) {
    throw new ConfigError(
      `safe: tauT ${String(tauT)} and targetFreezeFraction ${share} must lie between 0 and 1.`,
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

/** Threshold tau_t of SAFE, eq. 4: 0 before `start`, rising as 1 - (1 - u)^3 to `tauT` at `end`. */
export function cubicThreshold(t: number, start: number, end: number, tauT: number): number {
  if (t < start) return 0;
  if (t >= end) return tauT;
  return tauT - tauT * (1 - (t - start) / (end - start)) ** 3;
}

/** The p-quantile of some numbers, linear between neighbours (NumPy's default). */
export function quantile(values: readonly number[], p: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const position = p * (sorted.length - 1);
  const below = sorted[Math.floor(position)]!;
  const above = sorted[Math.ceil(position)]!;
  return below + (above - below) * (position - Math.floor(position));
}

type Scores = ReadonlyMap<number, number>;

const COUNT = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const SCORES = v.array(v.strictTuple([COUNT, v.number()]));
const INTERVAL = {
  interval: COUNT,
  scores: v.record(v.string(), v.number()),
  threshold: v.number(),
  frozen: v.array(COUNT),
};
const SAVED = v.strictObject({
  intervals: COUNT,
  interval: COUNT,
  settled: COUNT,
  start: v.nullable(COUNT),
  tauT: v.number(),
  previous: v.nullable(SCORES),
  warmup: SCORES,
  history: v.array(v.strictObject(INTERVAL)),
});

/** SAFE's schedule on a sequence of scores, apart from any training: warm-up, threshold, and who falls below it. */
export class SafeSchedule {
  #interval = 0;
  #settled = 0;
  #previous: Scores | undefined;
  #warmup: Scores = new Map();
  #start: number | undefined;
  #tauT = 0;
  #history: { interval: number; scores: Record<string, number>; threshold: number; frozen: number[] }[] = [];

  constructor(
    readonly settings: SafeSettings,
    /** Intervals T of the whole run. */
    readonly intervals: number,
  ) {}

  /** One that goes on where another was saved. @throws FileFormatError for what none saves. */
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

  /** Everything that its next decisions depend on, and what it has decided; plain JSON. */
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

  /** Takes the scores of the live adapters at the next interval, from 1, and says which of them freeze. */
  next(scores: Scores): number[] {
    this.#interval++;
    if (this.#start === undefined) this.#watch(scores);
    const threshold = this.threshold;
    const judged = this.settings.scores === "warmup" && this.#start !== undefined ? this.#warmup : scores;
    const frozen = [...scores.keys()].filter((layer) => (judged.get(layer) ?? Infinity) < threshold);
    this.#history.push({ interval: this.#interval, scores: Object.fromEntries(scores), threshold, frozen });
    this.#previous = scores;
    return frozen;
  }

  /** tau_t now. */
  get threshold(): number {
    if (this.#start === undefined) return 0;
    return cubicThreshold(this.#interval, this.#start, this.#end(this.#start), this.#tauT);
  }

  #watch(scores: Scores): void {
    const { settledBelow, settledFor, targetFreezeFraction, tauT } = this.settings;
    this.#settled = this.#change(scores) < settledBelow ? this.#settled + 1 : 0;
    const latest = this.settings.maxWarmup ?? Math.max(1, Math.floor(this.intervals / 3));
    if (this.#settled < settledFor && this.#interval < latest) return;
    this.#start = this.#interval;
    this.#warmup = scores;
    this.#tauT = tauT ?? quantile([...scores.values()], targetFreezeFraction);
  }

  /** Largest relative change of any score since the last interval; infinite at the first. */
  #change(scores: Scores): number {
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
