import type { Engine } from "../src/engine";
import { ceiling } from "./ceiling";
import { freeze } from "./freeze";
import { memory } from "./memory";
import { ops } from "./ops";
import { peers } from "./peers";
import { step } from "./step";
import { main } from "./support/main";

/** Every bench, one after the other. */
export async function all(engine: Engine): Promise<void> {
  for (const bench of [ceiling, ops, memory, step, freeze, peers]) await bench(engine);
}

await main("all", all);
