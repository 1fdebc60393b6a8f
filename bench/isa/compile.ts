import { createEngine } from "../../src/engine";
import { nodeGpu } from "../../src/node/gpu";
import { entries } from "./entries";
import type { Filter } from "./entries";
import { beginPipeline, endCompilation, endPipeline } from "./toolchain";

/** Compiles the entries that an engine on this machine's adapter runs, in a program that `runOnFamily` started. */
export async function compileEntries(filter?: Filter): Promise<void> {
  const { device } = await createEngine({ gpu: await nodeGpu() });
  for (const { entry, launch } of await entries(device, filter)) {
    beginPipeline(JSON.stringify(entry));
    await device.pipelines.get(launch);
    endPipeline();
  }
  endCompilation(device.info.description);
}
