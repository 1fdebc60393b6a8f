import { readFile } from "node:fs/promises";
import { parseBenchResult } from "../../testing/bench-result";
import type { BenchResult } from "../../testing/bench-result";
import { UsageError } from "../options";

/** A file that `safetape bench --json` or the browser example's page wrote. @throws UsageError if it is not one. */
export async function readBenchResult(file: string): Promise<BenchResult> {
  const remedy = "--compare needs a file that safetape bench --json wrote.";
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch {
    throw new UsageError(`${file} cannot be read.`, remedy);
  }
  try {
    return parseBenchResult(text);
  } catch {
    throw new UsageError(`${file} holds no result of a bench.`, remedy);
  }
}
