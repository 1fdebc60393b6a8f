import { actAsBrowser } from "../support/browser";

/** Stands in for GPUCanvasContext, which Node lacks: the meter wraps these methods. */
class CanvasContextStub {
  configure(): void {}
  unconfigure(): void {}
  getCurrentTexture(): void {}
}

/** Starts to count all WebGPU buffers of the process. Returns a function that gives their peak bytes so far. */
export async function meterBuffers(): Promise<() => number> {
  actAsBrowser();
  Object.assign(globalThis, { GPUCanvasContext: CanvasContextStub });
  const { getWebGPUMemoryUsage } = await import("webgpu-memory");
  return () => getWebGPUMemoryUsage().memory.maxTotal;
}
