import * as v from "valibot";
import { version } from "../../../package.json";
import { FileFormatError } from "../../base/errors";
import type { AdapterInfo } from "../device";

/** The result of tuning a shape class, by names of variants. */
export interface Tuned {
  /** The fastest one. */
  readonly chosen: string;
  /** All that were timed. */
  readonly tried: readonly string[];
}

/** Results of tuning, by shape class. */
export type TuningRecord = Readonly<Record<string, Tuned>>;

/** Storage in which the results of tuning outlive an engine. */
export interface TuningCache {
  /** The record that was saved under a key, or undefined. It is validated before it is used. */
  load(key: string): Promise<unknown>;
  /** Replaces the record under a key. Other keys keep theirs. */
  save(key: string, record: TuningRecord): Promise<void>;
}

const RECORD = v.record(v.string(), v.object({ chosen: v.string(), tried: v.array(v.string()) }));

/** Validates a loaded record; `undefined` is an empty one. @throws FileFormatError when a tuner did not write it. */
export function checkRecord(loaded: unknown): TuningRecord {
  const { success, output, issues } = v.safeParse(RECORD, loaded ?? {});
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
