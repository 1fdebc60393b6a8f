import * as v from "valibot";
import { version } from "../../package.json";
import { ConfigError } from "../base/errors";
import type { Engine } from "../engine";
import type { Attributes, Op, OpCase } from "../op/declaration";
import { benchOp, casesToTime } from "./bench-op";
import type { BenchOptions, OpTiming } from "./bench-op";
import { quickCeiling } from "./ceiling";

const PASSES = ["forward", "forward + backward"] as const;

const TIMING = v.object({
  op: v.string(),
  case: v.string(),
  pass: v.picklist(PASSES),
  variant: v.string(),
  clock: v.picklist(["device", "host"]),
  ms: v.number(),
  fastestMs: v.number(),
  slowestMs: v.number(),
  gflops: v.number(),
  gigabytesPerSecond: v.optional(v.number()),
  ofFmaRate: v.number(),
  ofCopyRate: v.optional(v.number()),
});

const RESULT = v.object({
  safetape: v.string(),
  adapter: v.string(),
  driver: v.string(),
  /** What simple kernels reach on the adapter. */
  ceiling: v.object({ gflops: v.number(), gigabytesPerSecond: v.number() }),
  timings: v.array(TIMING),
});

/** What `safetape bench --json` prints, and what the studio's page of it saves: numbers with four digits. */
export type BenchResult = v.InferOutput<typeof RESULT>;

/** How long an op took on one case, with four digits of each number. */
export type BenchTiming = BenchResult["timings"][number];

/** An op and the cases on which it is timed. */
export interface BenchSubject {
  readonly op: Op;
  /** Default: those that are meant for benches, or all if none is. */
  readonly cases?: readonly OpCase<Attributes>[];
}

export interface BenchAllOptions extends BenchOptions {
  /** Gets what one case took, and how many cases are done. */
  readonly onTimings?: (timings: readonly BenchTiming[], done: number, total: number) => void;
  /** Ends the bench after the case that is being timed. */
  readonly signal?: AbortSignal;
}

/** Times ops, one case after the other. Throws as `benchOp` does. */
export async function benchOps(
  engine: Engine,
  subjects: readonly BenchSubject[],
  options: BenchAllOptions = {},
): Promise<BenchResult> {
  const { onTimings, signal } = options;
  const ceiling = options.ceiling ?? (await quickCeiling(engine));
  const cases = subjects.flatMap(({ op, cases = casesToTime(op) }) => cases.map((test) => ({ op, test })));
  const timings: BenchTiming[] = [];
  for (const [i, { op, test }] of cases.entries()) {
    if (signal?.aborted) break;
    const measured = (await benchOp(engine, op, [test], { ...options, ceiling })).map(rounded);
    timings.push(...measured);
    onTimings?.(measured, i + 1, cases.length);
  }
  const { device, vendor, description } = engine.info;
  return {
    safetape: version,
    adapter: device || vendor,
    driver: description,
    ceiling: { gflops: digits(ceiling.gflops), gigabytesPerSecond: digits(ceiling.gigabytesPerSecond) },
    timings,
  };
}

const digits = (value: number): number => Number(value.toPrecision(4));

const rounded = ({ gigabytesPerSecond, ofCopyRate, ...timing }: OpTiming): BenchTiming => ({
  ...timing,
  ms: digits(timing.ms),
  fastestMs: digits(timing.fastestMs),
  slowestMs: digits(timing.slowestMs),
  gflops: digits(timing.gflops),
  ofFmaRate: digits(timing.ofFmaRate),
  ...(gigabytesPerSecond !== undefined && { gigabytesPerSecond: digits(gigabytesPerSecond) }),
  ...(ofCopyRate !== undefined && { ofCopyRate: digits(ofCopyRate) }),
});

/** A result that was saved as JSON. @throws ConfigError for any other text. */
export function parseBenchResult(text: string): BenchResult {
  try {
    return v.parse(RESULT, JSON.parse(text));
  } catch (cause) {
    throw new ConfigError("This is no result of a bench.", "Give what safetape bench --json printed.", { cause });
  }
}

/**
 * Milliseconds as a multiple of those in another result, for the same op, case and pass; undefined where it has none.
 * @param isByVariant whether the variants must be the same, too.
 */
export function benchRatio(other: BenchResult, timing: BenchTiming, isByVariant = false): number | undefined {
  const same = other.timings.find(
    (candidate) =>
      candidate.op === timing.op &&
      candidate.case === timing.case &&
      candidate.pass === timing.pass &&
      (!isByVariant || candidate.variant === timing.variant),
  );
  return same && timing.ms / same.ms;
}
