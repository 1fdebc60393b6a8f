import type { Engine } from "../src/engine";
import { ceiling } from "./ceiling";
import { gpujs } from "./gpujs";
import { memory } from "./memory";
import { ops } from "./ops";
import { step } from "./step";
import { main } from "./support/main";

/** The benches of a few minutes, one after the other. */
export async function all(engine: Engine): Promise<void> {
  for (const bench of [ceiling, ops, memory, step, gpujs]) await bench(engine);
}

await main("all", all);
