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

/** Runs the benches that take a few minutes each. `host` comes last, since it replaces the device's methods for good. */
export async function all(engine: Engine): Promise<void> {
  for (const bench of [ceiling, ops, memory, step, fused, gpujs, probe, host]) await bench(engine);
}

await main("all", all);
