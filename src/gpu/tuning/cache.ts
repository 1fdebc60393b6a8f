import * as v from "valibot";
import { version } from "../../../package.json";
import { FileFormatError } from "../../base/errors";
import type { AdapterInfo } from "../device";
import type { TuningOptions } from "./tuner";

/** The result of tuning a shape class, by names of variants. */
export interface Tuned {
  /** The fastest one. */
  readonly chosen: string;
  /** All that were timed. */
  readonly tried: readonly string[];
}

/** Results of tuning, by shape class. */
export type TuningRecord = Readonly<Record<string, Tuned>>;

/** What the first run of a variant gave: the portable kernel's bits, its results up to rounding, or neither. */
export type Verdict = "equal" | "rounded" | "wrong";

/** Verdicts on variants, by pipeline and text. */
export type VerdictRecord = Readonly<Record<string, Verdict>>;

/** Storage in which the results of tuning, and of the first run of kernels, outlive an engine. */
export interface TuningCache {
  /** The record that was saved under a key, or undefined. It is validated before it is used. */
  load(key: string): Promise<unknown>;
  /** Replaces the record under a key. Other keys keep theirs. */
  save(key: string, record: TuningRecord | VerdictRecord): Promise<void>;
}

const TUNED = v.object({ chosen: v.string(), tried: v.array(v.string()) });
const VERDICT = v.picklist(["equal", "rounded", "wrong"]);

/** Validates a loaded record; `undefined` is an empty one. @throws FileFormatError when a tuner did not write it. */
export const checkRecord = (loaded: unknown): TuningRecord => parseRecord(TUNED, loaded);

/** Validates loaded verdicts; `undefined` is none. @throws FileFormatError when a checker did not write them. */
export const checkVerdicts = (loaded: unknown): VerdictRecord => parseRecord(VERDICT, loaded);

function parseRecord<T>(entry: v.GenericSchema<T>, loaded: unknown): Record<string, T> {
  const { success, output, issues } = v.safeParse(v.record(v.string(), entry), loaded ?? {});
  if (success) return output;
  throw new FileFormatError(
    `a tuning record is damaged: ${v.summarize(issues)}`,
    "remove it; tuning creates a new one",
  );
}

/** Key of a record. Timings are valid for one adapter, driver and release of the kernels. */
export function tuningKey(info: AdapterInfo, release: string = version): string {
  const { vendor, architecture, device, description, subgroup = 0 } = info;
  return [`safetape ${release}`, vendor, architecture, device, description, `subgroups of ${subgroup}`].join(" | ");
}

/** Key of an adapter's record of verdicts. */
export const verdictsKey = (info: AdapterInfo): string => `checked | ${tuningKey(info)}`;

/** A record of a cache, or of none. What fails is told and fails nothing else: the record is then empty, or not kept. */
export class CachedRecord<T extends Tuned | Verdict> {
  constructor(
    private readonly key: string,
    private readonly validate: (loaded: unknown) => Readonly<Record<string, T>>,
    private readonly options: TuningOptions,
  ) {}

  async load(): Promise<Map<string, T>> {
    const { cache } = this.options;
    if (!cache) return new Map();
    try {
      return new Map(Object.entries(this.validate(await cache.load(this.key))));
    } catch (error) {
      this.#warn("was not used", error);
      return new Map();
    }
  }

  async save(record: ReadonlyMap<string, T>): Promise<void> {
    const { cache } = this.options;
    if (!cache) return;
    try {
      // TypeScript cannot know that all values of a record are of one kind.
      await cache.save(this.key, Object.fromEntries(record) as TuningRecord | VerdictRecord);
    } catch (error) {
      this.#warn("was not written", error);
    }
  }

  #warn(problem: string, error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    warn(this.options, `the cache of tuned kernels ${problem}: ${reason}`);
  }
}

/** Tells the owner of an engine what does not fail a run. */
export function warn({ onWarning }: TuningOptions, message: string): void {
  // oxlint-disable-next-line no-console -- the default of a documented option
  (onWarning ?? ((text: string) => console.warn(text)))(`safetape: ${message}`);
}
