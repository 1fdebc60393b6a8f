import type { Engine } from "../src/engine";
import { main } from "./support/main";
import { measureCeiling } from "./support/ceiling";
import type { Rates } from "./support/ceiling";
import { round, writeResults } from "./support/results";

/** Measures the adapter's rates of fused multiply-adds and of copying, in many shapes of kernels. */
export async function ceiling(engine: Engine): Promise<void> {
  const { gflops, gigabytesPerSecond, fma, copy } = await measureCeiling(engine);
  const [[fmaShape], [copyShape]] = [[...fma.keys()], [...copy.keys()]];
  const rounded = (rates: Rates): Record<string, number> =>
    Object.fromEntries([...rates].map(([shape, rate]) => [shape, round(rate)]));
  const [fmaRates, copyRates] = [rounded(fma), rounded(copy)];
  console.table(fmaRates);
  console.table(copyRates);
  await writeResults(engine, "ceiling", [
    {
      "GFLOP/s": round(gflops),
      "FMA shape": fmaShape,
      "GB/s": round(gigabytesPerSecond),
      "copy shape": copyShape,
      "GFLOP/s by shape": fmaRates,
      "GB/s by shape": copyRates,
    },
  ]);
}

await main("ceiling", ceiling);
