import { createEngine as createCoreEngine } from "../engine";
import type { Engine, EngineOptions } from "../engine";
import { nodeGpu } from "./gpu";
import { napping } from "./napping";
import { fileTuningCache } from "./tuning-file";

/**
 * Opens an engine on `options.gpu`; by default on the GPU of this machine, through the runtime's own WebGPU (Deno) or the npm package
 * `webgpu` (Node, Bun). Tuned kernels are remembered in a file of the user (`tuningPath`).
 * @throws DeviceError if there is no adapter.
 */
export async function createEngine(options: EngineOptions = {}): Promise<Engine> {
  const tuning = { cache: fileTuningCache(), ...options.tuning };
  return createCoreEngine({ waiting: napping, ...options, tuning, gpu: options.gpu ?? ownGpu() ?? (await nodeGpu()) });
}

/** The WebGPU of a runtime that has one: Node and Bun have none, and Deno has one. */
function ownGpu(): GPU | undefined {
  // The DOM's types say that every navigator has one.
  return (globalThis as { navigator?: { gpu?: GPU } }).navigator?.gpu;
}
