import { SafetapeError } from "../../base/errors";
import type { Launch } from "../../op/launch";
import type { Device } from "../device";
import { LEAST_FLOPS, usualVariants } from "../variants";
import type { VariantChoice } from "../variants";
import { CachedRecord, checkRecord, tuningKey } from "./cache";
import type { Tuned, TuningCache } from "./cache";
import { candidates, fastest, nameOf, shapeClass } from "./candidates";
import type { Candidate } from "./candidates";
import { scratchBytes } from "./scratch";
import type { BoundLaunch } from "./scratch";
import { timeCandidates } from "./timing";
import type { Timings } from "./timing";

export interface TuningOptions {
  /** Seconds that an engine spends on timing variants, in total. Default 2. */
  readonly seconds?: number;
  /** Whether variants may be chosen that sum in another order than the default: faster, other bits. Default false. */
  readonly rounding?: boolean;
  /**
   * Where results are stored, and what the first run of kernels gave (`checkKernels`), or false for nowhere. Default: a file
   * in Node, IndexedDB in browsers.
   */
  readonly cache?: TuningCache | false;
  /** Called when the cache cannot be used, and once for each kernel that is found wrong. Default: a warning on the console. */
  readonly onWarning?: (message: string) => void;
}

/** How the launches of a shape class run in an engine, and why. */
export interface KernelChoice {
  readonly shape: string;
  /** Name of the variant, or "portable". */
  readonly chosen: string;
  /** `usual`: the untuned choice, since the time or the memory for timing was used up. */
  readonly how: "timed" | "cached" | "usual";
  /** Seconds of every candidate that was timed, by name; Infinity for one that the driver cannot compile. */
  readonly seconds?: Readonly<Record<string, number>>;
}

/** A shape class for which nothing is chosen yet. */
interface UndecidedClass {
  readonly shape: string;
  /** A launch of the class, which is timed for all. */
  readonly bound: BoundLaunch;
  readonly usual: Candidate;
  readonly candidates: readonly Candidate[];
  /** FLOPs of all launches of the class. */
  readonly flops: number;
}

const DEFAULT_SECONDS = 2;

/**
 * Chooses the variants of launches by timing them. A shape class is decided once per engine, before the first plan that
 * needs it is allocated, so that an engine's results repeat. Results are stored in the cache.
 */
export class Tuner {
  readonly #choices = new Map<string, KernelChoice>();
  readonly #usual: VariantChoice;
  readonly #stored: CachedRecord<Tuned>;
  readonly #rounding: boolean;
  #secondsLeft: number;
  /** The cache's record, loaded on first use. */
  #record: Promise<Map<string, Tuned>> | undefined;
  #queue: Promise<unknown> = Promise.resolve();

  /** @param time times candidates; tests replace it. */
  constructor(
    private readonly device: Device,
    options: TuningOptions = {},
    private readonly time: typeof timeCandidates = timeCandidates,
  ) {
    this.#usual = usualVariants(device.info);
    this.#rounding = options.rounding ?? false;
    this.#secondsLeft = options.seconds ?? DEFAULT_SECONDS;
    this.#stored = new CachedRecord(tuningKey(device.info), checkRecord, options);
  }

  /** All choices so far. */
  get choices(): readonly KernelChoice[] {
    return [...this.#choices.values()];
  }

  /** The variant of a launch: the chosen one if its class is decided, else the usual one. */
  readonly choose: VariantChoice = (launch) => {
    const choice = this.#choices.get(shapeClass(launch) ?? "");
    if (!choice) return this.#usual(launch);
    const chosen = this.#candidates(launch).find((candidate) => nameOf(candidate) === choice.chosen);
    return chosen ?? (choice.chosen === nameOf(undefined) ? undefined : this.#usual(launch));
  };

  /**
   * Decides the shape classes of some launches, the most expensive class first.
   * @param maxBytes memory that it may use for timing: what the caller is about to allocate anyway.
   */
  prepare(launches: readonly BoundLaunch[], maxBytes: number): Promise<void> {
    const result = this.#queue.then(() => this.#prepareNow(launches, maxBytes));
    this.#queue = result.catch(() => undefined);
    return result;
  }

  async #prepareNow(launches: readonly BoundLaunch[], maxBytes: number): Promise<void> {
    const undecided = this.#undecided(launches);
    if (undecided.length === 0) return;
    const record = await (this.#record ??= this.#stored.load());
    let hasTimed = false;
    for (const entry of undecided) {
      const tuned = record.get(entry.shape);
      const choice = await this.#decide(entry, tuned, maxBytes);
      this.#choices.set(entry.shape, choice);
      if (choice.how !== "timed") continue;
      hasTimed = true;
      record.set(entry.shape, addTimings(tuned, choice));
    }
    if (!hasTimed) return;
    await this.device.wait(this.device.pool.flush());
    await this.#stored.save(record);
  }

  /**
   * Times all candidates of a launch, also those that this engine may not choose, and stores the choice in the cache
   * (`safetape doctor --tune`). Undefined for a launch without variants, or whose class is decided.
   */
  async measure(bound: BoundLaunch): Promise<KernelChoice | undefined> {
    const [undecided] = this.#undecided([bound]);
    if (!undecided) return undefined;
    const all = candidates(bound.launch, undecided.usual, { adapter: this.device.info, rounding: true });
    const record = await (this.#record ??= this.#stored.load());
    const choice = chooseFastest(undecided, await this.#timeAll(bound, all));
    this.#choices.set(undecided.shape, choice);
    record.set(undecided.shape, addTimings(undefined, choice));
    await this.#stored.save(record);
    return choice;
  }

  /** Seconds left for timing. */
  get secondsLeft(): number {
    return this.#secondsLeft;
  }

  #candidates(launch: Launch): Candidate[] {
    const { info: adapter } = this.device;
    return candidates(launch, this.#usual(launch), { adapter, rounding: this.#rounding });
  }

  /** The undecided shape classes of some launches, the most expensive first. */
  #undecided(launches: readonly BoundLaunch[]): UndecidedClass[] {
    const undecided = new Map<string, UndecidedClass>();
    for (const bound of launches) {
      const { launch } = bound;
      const shape = shapeClass(launch);
      const flops = launch.variants?.[0]?.flops ?? 0;
      if (shape === undefined || flops < LEAST_FLOPS || this.#choices.has(shape)) continue;
      undecided.set(shape, {
        shape,
        bound,
        usual: this.#usual(launch),
        candidates: this.#candidates(launch),
        flops: flops + (undecided.get(shape)?.flops ?? 0),
      });
    }
    return [...undecided.values()].sort((a, b) => b.flops - a.flops);
  }

  async #decide(undecided: UndecidedClass, tuned: Tuned | undefined, maxBytes: number): Promise<KernelChoice> {
    const { shape, usual, bound } = undecided;
    const isCached = undecided.candidates.some((candidate) => nameOf(candidate) === tuned?.chosen);
    const fallback: KernelChoice =
      tuned && isCached
        ? { shape, chosen: tuned.chosen, how: "cached" }
        : { shape, chosen: nameOf(usual), how: "usual" };
    const untried = undecided.candidates.filter((candidate) => !tuned?.tried.includes(nameOf(candidate)));
    if (undecided.candidates.length < 2 || untried.length === 0) return fallback;
    if (this.#secondsLeft <= 0 || scratchBytes(bound.bindings, [bound.launch]) > maxBytes) return fallback;
    const cached = undecided.candidates.find((candidate) => nameOf(candidate) === tuned?.chosen);
    try {
      return chooseFastest(undecided, await this.#timeAll(bound, [...new Set([usual, cached, ...untried])]));
    } catch (error) {
      // Timing is optional, so a lack of memory is not an error. Running a plan reports a lost device.
      if (error instanceof SafetapeError) return fallback;
      throw error;
    }
  }

  async #timeAll(bound: BoundLaunch, all: readonly Candidate[]): Promise<Timings> {
    const start = performance.now();
    try {
      return await this.device.guard(this.time(this.device, bound, all, { until: start + 1000 * this.#secondsLeft }));
    } finally {
      this.#secondsLeft -= (performance.now() - start) / 1000;
    }
  }
}

/** The choice among a class's candidates by their timings, which may include candidates that must not be chosen. */
function chooseFastest({ shape, usual, candidates: all }: UndecidedClass, seconds: Timings): KernelChoice {
  const names = new Set(all.map(nameOf));
  const allowed = new Map([...seconds].filter(([name]) => names.has(name)));
  return { shape, chosen: fastest(allowed, nameOf(usual)), how: "timed", seconds: Object.fromEntries(seconds) };
}

/** The record of a class after another timing. */
const addTimings = (tuned: Tuned | undefined, { chosen, seconds = {} }: KernelChoice): Tuned => ({
  chosen,
  tried: [...new Set([...(tuned?.tried ?? []), ...Object.keys(seconds)])],
});
