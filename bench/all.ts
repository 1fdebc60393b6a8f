import type { Engine } from "../src/engine";
import { ceiling } from "./ceiling";
import { fused } from "./fused";
import { gpujs } from "./gpujs";
import { host } from "./host";
import { memory } from "./memory";
import { ops } from "./ops";
import { probe } from "./probe";
import { step } from "./step";
import { main } from "./support/main";

/** The benches of a few minutes, one after the other; `host` last, since it watches the device from then on. */
export async function all(engine: Engine): Promise<void> {
  for (const bench of [ceiling, ops, memory, step, fused, gpujs, probe, host]) await bench(engine);
}

await main("all", all);
