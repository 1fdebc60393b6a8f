import { actAsBrowser } from "./browser";

/** What of gpu.js is used here; its own types do not know the mode "webgpu". */
export type GpuJs = new (options: { mode: string }) => {
  createKernel(body: string): GpuJsKernel;
};

export interface GpuJsKernel {
  setOutput(size: number[]): GpuJsKernel;
  /** Results stay where they were made. */
  setPipeline(stays: boolean): GpuJsKernel;
  (...operands: unknown[]): unknown;
}

/** A result that stays on the GPU. */
export interface GpuJsHandle {
  readonly context: { readonly device: GPUDevice };
  toArray(): Promise<ArrayLike<number>[]>;
}

export async function loadGpuJs(): Promise<GpuJs> {
  actAsBrowser();
  return ((await import("gpu.js")) as unknown as { GPU: GpuJs }).GPU;
}
