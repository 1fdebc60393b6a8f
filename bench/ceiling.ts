import type { Engine } from "../src/engine";
import { main } from "./support/main";
import { measureCeiling } from "./support/ceiling";
import { report, round } from "./support/results";

/** Measures the adapter's rates of fused multiply-adds and of copying. */
export async function ceiling(engine: Engine): Promise<void> {
  const { gflops, gigabytesPerSecond } = await measureCeiling(engine);
  await report(engine, "ceiling", [{ "GFLOP/s": round(gflops), "GB/s": round(gigabytesPerSecond) }]);
}

await main("ceiling", ceiling);
