import { createEngine } from "../../src/engine";
import { nodeGpu } from "../../src/node/gpu";
import { entries } from "./entries";
import type { Filter } from "./entries";
import { beginPipeline, endCompilation, endPipeline } from "./toolchain";

/**
 * Compiles the entries that an engine on this machine's adapter runs, in a program that `runOnFamily` started.
 * @param choice some of them, or each with the constants alone that it has first, in a step if it is in any.
 */
export async function compileEntries(choice?: Filter | "first constants"): Promise<void> {
  const { device } = await createEngine({ gpu: await nodeGpu() });
  const all = await entries(device, choice === "first constants" ? undefined : choice);
  const seen = new Set<string>();
  for (const { entry, launch } of all) {
    const name = `${entry.kernel}.${entry.entry}`;
    if (choice === "first constants" && seen.has(name)) continue;
    seen.add(name);
    beginPipeline(JSON.stringify(entry));
    await device.pipelines.get(launch);
    endPipeline();
  }
  endCompilation(device.info.description);
}
