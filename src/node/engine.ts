import { createEngine as createCoreEngine } from "../engine";
import type { Engine, EngineOptions } from "../engine";
import { nodeGpu } from "./gpu";
import { napping } from "./napping";
import { fileTuningCache } from "./tuning-file";

/**
 * Opens an engine on `options.gpu`, by default the GPU of this machine through the npm package `webgpu`. Tuned kernels are
 * remembered in a file of the user (`tuningPath`).
 * @throws DeviceError if there is no adapter.
 */
export async function createEngine(options: EngineOptions = {}): Promise<Engine> {
  const tuning = { cache: fileTuningCache(), ...options.tuning };
  return createCoreEngine({ waiting: napping, ...options, tuning, gpu: options.gpu ?? (await nodeGpu()) });
}
