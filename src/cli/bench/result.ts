import { readFile } from "node:fs/promises";
import * as v from "valibot";
import { UsageError } from "../options";

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

/** What `safetape bench --json` prints. */
export type BenchResult = v.InferOutput<typeof RESULT>;

/** A file that `safetape bench --json` wrote. @throws UsageError if it is not one. */
export async function readBenchResult(file: string): Promise<BenchResult> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch {
    throw new UsageError(`${file} cannot be read.`, "--compare needs a file that safetape bench --json wrote.");
  }
  try {
    return v.parse(RESULT, JSON.parse(text));
  } catch {
    throw new UsageError(
      `${file} holds no result of a bench.`,
      "--compare needs a file that safetape bench --json wrote.",
    );
  }
}
