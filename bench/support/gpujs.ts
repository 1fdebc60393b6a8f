import { actAsBrowser } from "./browser";

/** The part of gpu.js that the benches use. */
export type GpuJs = new (options: { mode: string }) => {
  createKernel(body: string): GpuJsKernel;
};

export interface GpuJsKernel {
  setOutput(size: number[]): GpuJsKernel;
  /** Whether results stay on the GPU. */
  setPipeline(isPipelined: boolean): GpuJsKernel;
  (...operands: unknown[]): unknown;
}

/** A result that stays on the GPU. */
export interface GpuJsHandle {
  readonly context: { readonly device: GPUDevice };
  toArray(): Promise<ArrayLike<number>[]>;
}

export async function loadGpuJs(): Promise<GpuJs> {
  actAsBrowser();
  // gpu.js's own types do not have the mode "webgpu".
  return ((await import("gpu.js")) as unknown as { GPU: GpuJs }).GPU;
}
