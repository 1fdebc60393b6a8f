import * as v from "valibot";
import { version } from "../../../package.json";
import { FileFormatError } from "../../base/errors";
import type { AdapterInfo } from "../device";

/** What is known of a shape class: the name of its fastest variant among those that were tried. */
export interface Tuned {
  readonly chosen: string;
  readonly tried: readonly string[];
}

/** Shape class -> what is known of it. */
export type TuningRecord = Readonly<Record<string, Tuned>>;

/** Where choices outlive an engine. */
export interface TuningCache {
  /** What was saved under a key, undefined for nothing. What it gives is checked before it is used. */
  load(key: string): Promise<unknown>;
  /** Replaces what lies under a key, and nothing else. */
  save(key: string, record: TuningRecord): Promise<void>;
}

const RECORD = v.record(v.string(), v.object({ chosen: v.string(), tried: v.array(v.string()) }));

/** @throws FileFormatError for what no tuner wrote. */
export function checkRecord(loaded: unknown): TuningRecord {
  const { success, output, issues } = v.safeParse(RECORD, loaded ?? {});
  if (success) return output;
  throw new FileFormatError(`a tuning record is damaged: ${v.summarize(issues)}`, "remove it: it is made anew");
}

/** Timings hold for one adapter, driver and version of the kernels. */
export function tuningKey(info: AdapterInfo, release: string = version): string {
  const { vendor, architecture, device, description, subgroup = 0 } = info;
  return [`safetape ${release}`, vendor, architecture, device, description, `subgroups of ${subgroup}`].join(" | ");
}
