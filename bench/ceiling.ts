import type { Engine } from "../src/engine";
import { hasTimeFor } from "./support/deadline";
import { main } from "./support/main";
import { measureCeiling } from "../src/testing/ceiling";
import type { Ceiling, Rates } from "../src/testing/ceiling";
import { round, writeResults } from "./support/results";

/** Measures the adapter's rates of fused multiply-adds and of copying, in many shapes of kernels. */
export async function ceiling(engine: Engine): Promise<void> {
  const write = (rates: Pick<Ceiling, "fma" | "copy">, notReached?: readonly string[]): Promise<void> =>
    writeResults(engine, "ceiling", [rowOf(rates)], notReached);
  const measured = await measureCeiling(engine, {
    onRates: (rates) => write(rates, ["further shapes"]),
    hasTimeFor,
  });
  console.table(rounded(measured.fma));
  console.table(rounded(measured.copy));
  await write(measured);
}

const rounded = (rates: Rates): Record<string, number> =>
  Object.fromEntries([...rates].map(([shape, rate]) => [shape, round(rate)]));

/** The rates, the fastest first. */
function rowOf({ fma, copy }: Pick<Ceiling, "fma" | "copy">): Record<string, unknown> {
  const [[fmaShape, gflops] = []] = fma;
  const [[copyShape, gigabytesPerSecond] = []] = copy;
  return {
    ...(gflops !== undefined && { "GFLOP/s": round(gflops), "FMA shape": fmaShape }),
    ...(gigabytesPerSecond !== undefined && { "GB/s": round(gigabytesPerSecond), "copy shape": copyShape }),
    "GFLOP/s by shape": rounded(fma),
    "GB/s by shape": rounded(copy),
  };
}

await main("ceiling", ceiling);
