import { SafetapeError } from "../../base/errors";
import type { Launch } from "../../op/launch";
import type { Device } from "../device";
import { LEAST_FLOPS, usualVariants } from "../variants";
import type { VariantChoice } from "../variants";
import { checkRecord, tuningKey } from "./cache";
import type { Tuned, TuningCache, TuningRecord } from "./cache";
import { candidates, fastest, nameOf, shapeClass } from "./candidates";
import type { Candidate } from "./candidates";
import { scratchBytes } from "./scratch";
import type { BoundLaunch } from "./scratch";
import { timeCandidates } from "./timing";
import type { Timings } from "./timing";

export interface TuningOptions {
  /** Seconds that an engine spends on trying variants, in all. Default 2. */
  readonly seconds?: number;
  /** Whether variants that sum in another order may be chosen: faster attention, other bits. Default false. */
  readonly rounding?: boolean;
  /** Where choices are kept, or false for nowhere. Default: a file in Node, IndexedDB in browsers. */
  readonly cache?: TuningCache | false;
  /** Told when a cache cannot be used. Default: a warning on the console. */
  readonly onWarning?: (message: string) => void;
}

/** How launches of one shape class run in an engine, and why. */
export interface KernelChoice {
  readonly shape: string;
  readonly chosen: string;
  /** `usual`: what the adapter runs untuned, since the time or the memory for trying was used up. */
  readonly how: "timed" | "cached" | "usual";
  /** What was timed, by name; Infinity for what the driver refuses. */
  readonly seconds?: Readonly<Record<string, number>>;
}

/** How a launch is timed: which ways there are, and what is known already. */
interface Open {
  readonly shape: string;
  readonly bound: BoundLaunch;
  readonly usual: Candidate;
  readonly all: readonly Candidate[];
  readonly flops: number;
}

const DEFAULT_SECONDS = 2;

/**
 * Chooses how launches run by trying it. A class is chosen once per engine, before the first plan that needs it is
 * allocated, so that an engine's results repeat; what was found goes into the cache.
 */
export class Tuner {
  readonly #choices = new Map<string, KernelChoice>();
  readonly #usual: VariantChoice;
  readonly #key: string;
  readonly #rounding: boolean;
  #left: number;
  #known: Promise<Map<string, Tuned>> | undefined;
  #last: Promise<unknown> = Promise.resolve();

  /** @param time how candidates are timed; tests give a stand-in. */
  constructor(
    private readonly device: Device,
    private readonly options: TuningOptions = {},
    private readonly time: typeof timeCandidates = timeCandidates,
  ) {
    this.#usual = usualVariants(device.info);
    this.#rounding = options.rounding ?? false;
    this.#left = options.seconds ?? DEFAULT_SECONDS;
    this.#key = tuningKey(device.info);
  }

  /** What was decided so far. */
  get choices(): readonly KernelChoice[] {
    return [...this.#choices.values()];
  }

  /** Of a launch that was prepared; the usual one for others. */
  readonly choose: VariantChoice = (launch) => {
    const choice = this.#choices.get(shapeClass(launch) ?? "");
    if (!choice) return this.#usual(launch);
    const found = this.#candidates(launch).find((candidate) => nameOf(candidate) === choice.chosen);
    return found ?? (choice.chosen === nameOf(undefined) ? undefined : this.#usual(launch));
  };

  /**
   * Decides every class among the launches, the most costly first.
   * @param mostBytes that it may hold while it tries: what the caller is about to allocate anyway.
   */
  prepare(launches: readonly BoundLaunch[], mostBytes: number): Promise<void> {
    const result = this.#last.then(() => this.#prepareNow(launches, mostBytes));
    this.#last = result.catch(() => undefined);
    return result;
  }

  async #prepareNow(launches: readonly BoundLaunch[], mostBytes: number): Promise<void> {
    const open = this.#open(launches);
    if (open.length === 0) return;
    const known = await (this.#known ??= this.#load());
    let hasTimed = false;
    for (const one of open) {
      const choice = await this.#decide(one, known.get(one.shape), mostBytes);
      this.#choices.set(one.shape, choice);
      if (choice.how !== "timed") continue;
      hasTimed = true;
      known.set(one.shape, tunedBy(choice, known.get(one.shape)));
    }
    if (!hasTimed) return;
    await this.device.wait(this.device.pool.flush());
    await this.#save(Object.fromEntries(known));
  }

  /** Times all ways, those that are never chosen too, and keeps the choice in the cache: `safetape doctor --tune`. */
  async measure(bound: BoundLaunch): Promise<KernelChoice | undefined> {
    const [one] = this.#open([bound]);
    if (!one) return undefined;
    const every = candidates(bound.launch, one.usual, { subgroup: this.device.info.subgroup, rounding: true });
    const known = await (this.#known ??= this.#load());
    const seconds = await this.#timed(one, every);
    const choice = this.#choiceBy(one, seconds);
    this.#choices.set(one.shape, choice);
    known.set(one.shape, tunedBy(choice, undefined));
    await this.#save(Object.fromEntries(known));
    return choice;
  }

  get secondsLeft(): number {
    return this.#left;
  }

  #candidates(launch: Launch): Candidate[] {
    const { subgroup } = this.device.info;
    return candidates(launch, this.#usual(launch), { subgroup, rounding: this.#rounding });
  }

  /** Classes without a choice, with one launch of each. */
  #open(launches: readonly BoundLaunch[]): Open[] {
    const open = new Map<string, Open>();
    for (const bound of launches) {
      const { launch } = bound;
      const shape = shapeClass(launch);
      const flops = launch.variants?.[0]?.flops ?? 0;
      if (shape === undefined || flops < LEAST_FLOPS || this.#choices.has(shape)) continue;
      const before = open.get(shape)?.flops ?? 0;
      const usual = this.#usual(launch);
      open.set(shape, { shape, bound, usual, all: this.#candidates(launch), flops: before + flops });
    }
    return [...open.values()].sort((a, b) => b.flops - a.flops);
  }

  async #decide(one: Open, known: Tuned | undefined, mostBytes: number): Promise<KernelChoice> {
    const { shape, usual, all, bound } = one;
    const best = all.find((candidate) => nameOf(candidate) === known?.chosen);
    const fallback: KernelChoice =
      known && all.some((candidate) => nameOf(candidate) === known.chosen)
        ? { shape, chosen: known.chosen, how: "cached" }
        : { shape, chosen: nameOf(usual), how: "usual" };
    const untried = all.filter((candidate) => !known?.tried.includes(nameOf(candidate)));
    if (all.length < 2 || untried.length === 0) return fallback;
    if (this.#left <= 0 || scratchBytes(bound) > mostBytes) return fallback;
    try {
      return this.#choiceBy(one, await this.#timed(one, [...new Set([usual, best, ...untried])]));
    } catch (error) {
      // Without memory for trying there is none for choosing; a lost device is told of by whoever runs a plan.
      if (error instanceof SafetapeError) return fallback;
      throw error;
    }
  }

  async #timed({ bound }: Open, wanted: readonly Candidate[]): Promise<Timings> {
    const start = performance.now();
    try {
      return await this.device.guard(this.time(this.device, bound, wanted, { until: start + 1000 * this.#left }));
    } finally {
      this.#left -= (performance.now() - start) / 1000;
    }
  }

  #choiceBy({ shape, usual, all }: Open, seconds: Timings): KernelChoice {
    const names = new Set(all.map(nameOf));
    const allowed = new Map([...seconds].filter(([name]) => names.has(name)));
    return { shape, chosen: fastest(allowed, nameOf(usual)), how: "timed", seconds: Object.fromEntries(seconds) };
  }

  async #load(): Promise<Map<string, Tuned>> {
    const { cache } = this.options;
    if (!cache) return new Map();
    try {
      return new Map(Object.entries(checkRecord(await cache.load(this.#key))));
    } catch (error) {
      this.#warn("is not used", error);
      return new Map();
    }
  }

  async #save(record: TuningRecord): Promise<void> {
    const { cache } = this.options;
    if (!cache) return;
    try {
      await cache.save(this.#key, record);
    } catch (error) {
      this.#warn("was not written", error);
    }
  }

  #warn(what: string, error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    // eslint-disable-next-line no-console -- a cache never fails a run, and somebody should know
    const { onWarning = (message) => console.warn(message) } = this.options;
    onWarning(`safetape: the cache of tuned kernels ${what}: ${reason}`);
  }
}

const tunedBy = ({ chosen, seconds }: KernelChoice, known: Tuned | undefined): Tuned => ({
  chosen,
  tried: [...new Set([...(known?.tried ?? []), ...Object.keys(seconds ?? {})])],
});
