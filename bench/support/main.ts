import { basename } from "node:path";
import { programName } from "../../scripts/program-name.mjs";
import type { Engine } from "../../src/engine";
import { createEngine } from "../../src/node/index";

/** Runs a bench if its file is the program being run, and does nothing if another bench imports it. */
export async function main(name: string, run: (engine: Engine) => Promise<void>): Promise<void> {
  if (!isProgram(name)) return;
  using engine = await createEngine();
  await run(engine);
}

/** Whether the program being run is the bundle of `bench/NAME.ts`. */
export function isProgram(name: string): boolean {
  return basename(process.argv[1] ?? "").replace(/\.m?js$/, "") === programName(`bench/${name}.ts`);
}
