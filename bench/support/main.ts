import { basename } from "node:path";
import type { Engine } from "../../src/engine";
import { createEngine } from "../../src/node/index";

/** Runs a bench if its file is the program being run, and does nothing if another bench imports it. */
export async function main(name: string, run: (engine: Engine) => Promise<void>): Promise<void> {
  if (basename(process.argv[1] ?? "", ".js") !== name) return;
  using engine = await createEngine();
  await run(engine);
}
