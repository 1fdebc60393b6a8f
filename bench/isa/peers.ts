import { attentionWorkloads } from "../peers/attention";
import { jax } from "../peers/jax";
import { productWorkloads } from "../peers/products";
import { rowWorkloads } from "../peers/rows";
import { tfjs } from "../peers/tfjs";
import type { Workload } from "../peers/workload";
import { actAsBrowser } from "../support/browser";
import { beginPipeline, endCompilation, endPipeline } from "./toolchain";

/** A shader as a peer hands it to WebGPU. */
export interface PeerShader {
  readonly peer: string;
  /** The first workload that needs it, and that workload's kind. */
  readonly workload: string;
  readonly family: Workload["family"];
  /** The peer's own name of the shader, where it gives one. */
  readonly label: string;
}

/** A shader with its text. Pipelines that a peer makes are compiled when the driver likes, so it is compiled once more. */
interface CaughtShader {
  readonly shader: PeerShader;
  readonly code: string;
  readonly entryPoint: string | undefined;
}

/**
 * Compiles the shaders of TensorFlow.js and jax-js for the workloads of `bench:peers`, in a program that `runOnFamily`
 * started: what they choose for this machine's adapter.
 */
export async function compilePeers(): Promise<void> {
  const gpu = actAsBrowser();
  const shaders = await catchShaders();
  const adapter = await gpu.requestAdapter();
  if (!adapter) throw new Error("The driver gives WebGPU no adapter.");
  const { maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX, maxComputeWorkgroupStorageSize } =
    adapter.limits;
  const device = await adapter.requestDevice({
    requiredLimits: { maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX, maxComputeWorkgroupStorageSize },
  });
  for (const { shader, code, entryPoint } of shaders) {
    const module = device.createShaderModule({ code });
    const compute = { module, ...(entryPoint !== undefined && { entryPoint }) };
    beginPipeline(JSON.stringify(shader));
    await device.createComputePipelineAsync({ layout: "auto", compute });
    endPipeline();
  }
  endCompilation(adapter.info.description);
}

/** Runs every workload once on each peer. Nothing is computed, so results are not looked at. */
async function catchShaders(): Promise<readonly CaughtShader[]> {
  let current: Omit<PeerShader, "label"> | undefined;
  const shaders = new Map<string, CaughtShader>();
  ignoreResults();
  const restore = watchPipelines((label, code, entryPoint) => {
    if (!current) return;
    const key = [current.peer, entryPoint, code].join("\n");
    if (!shaders.has(key)) shaders.set(key, { shader: { ...current, label }, code, entryPoint });
  });
  for (const engine of [await tfjs(), await jax()]) {
    for (const make of [...productWorkloads(), ...attentionWorkloads(), ...rowWorkloads()]) {
      const workload = make();
      current = { peer: engine.name, workload: workload.name, family: workload.family };
      const runner = await engine.prepare(workload);
      await runner.run();
      runner.dispose();
    }
  }
  restore();
  return [...shaders.values()];
}

/** Lets buffers map at once, to zeros. */
function ignoreResults(): void {
  GPUBuffer.prototype.mapAsync = () => Promise.resolve(undefined);
  GPUBuffer.prototype.getMappedRange = function (this: GPUBuffer, offset = 0, size = this.size - offset) {
    return new ArrayBuffer(size);
  };
}

/** Calls `onPipeline` for every pipeline of any device, until the function that it returns is called. */
function watchPipelines(onPipeline: (label: string, code: string, entryPoint: string | undefined) => void): () => void {
  const { prototype } = GPUDevice;
  /* eslint-disable @typescript-eslint/unbound-method -- the functions below call them on their own device */
  const { createShaderModule, createComputePipeline, createComputePipelineAsync } = prototype;
  /* eslint-enable @typescript-eslint/unbound-method */
  const codes = new WeakMap<GPUShaderModule, string>();
  const note = ({ label = "", compute: { module, entryPoint } }: GPUComputePipelineDescriptor): void =>
    onPipeline(label, codes.get(module) ?? "", entryPoint);
  prototype.createShaderModule = function (descriptor: GPUShaderModuleDescriptor) {
    const module = createShaderModule.call(this, descriptor);
    codes.set(module, descriptor.code);
    return module;
  };
  prototype.createComputePipeline = function (descriptor: GPUComputePipelineDescriptor) {
    note(descriptor);
    return createComputePipeline.call(this, descriptor);
  };
  prototype.createComputePipelineAsync = function (descriptor: GPUComputePipelineDescriptor) {
    note(descriptor);
    return createComputePipelineAsync.call(this, descriptor);
  };
  return () => Object.assign(prototype, { createShaderModule, createComputePipeline, createComputePipelineAsync });
}
