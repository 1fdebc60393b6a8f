import { actAsBrowser } from "../support/browser";

/** Node has no canvas; the meter wraps these methods of one. */
class NoCanvas {
  configure(): void {}
  unconfigure(): void {}
  getCurrentTexture(): void {}
}

/** From now on, counts all WebGPU buffers of the process by wrapping WebGPU itself. Returns how to read the peak. */
export async function peakOfBuffers(): Promise<() => number> {
  actAsBrowser();
  Object.assign(globalThis, { GPUCanvasContext: NoCanvas });
  const { getWebGPUMemoryUsage } = await import("webgpu-memory");
  return () => getWebGPUMemoryUsage().memory.maxTotal;
}
