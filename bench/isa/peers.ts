import { attentionWorkloads } from "../peers/attention";
import { jax } from "../peers/jax";
import { productWorkloads } from "../peers/products";
import { rowWorkloads } from "../peers/rows";
import { tfjs } from "../peers/tfjs";
import type { Workload } from "../peers/workload";
import { actAsBrowser } from "../support/browser";
import { onnxruntime } from "./onnxruntime";
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
 * Compiles the shaders of TensorFlow.js, jax-js and, where it is installed, onnxruntime-web for the workloads of `bench:peers`,
 * in a program that `runOnFamily` started: what they choose for this machine's adapter.
 */
export async function compilePeers(): Promise<void> {
  const gpu = actAsBrowser();
  const adapter = await gpu.requestAdapter();
  if (!adapter) throw new Error("The driver gives WebGPU no adapter.");
  const { maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX, maxComputeWorkgroupStorageSize } =
    adapter.limits;
  const device = await adapter.requestDevice({
    requiredFeatures: (["shader-f16", "subgroups"] as const).filter((feature) => adapter.features.has(feature)),
    requiredLimits: { maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX, maxComputeWorkgroupStorageSize },
  });
  for (const { shader, code, entryPoint } of await catchShaders()) {
    const module = device.createShaderModule({ code });
    const compute = { module, ...(entryPoint !== undefined && { entryPoint }) };
    beginPipeline(JSON.stringify(shader));
    device.createComputePipeline({ layout: "auto", compute });
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
  const workloads = [...productWorkloads(), ...attentionWorkloads(), ...rowWorkloads()];
  const onnx = await onnxruntime();
  for (const engine of [await tfjs(), await jax(), ...(onnx ? [onnx] : [])]) {
    for (const make of workloads) {
      const workload = make();
      // It has no gradients.
      if (engine === onnx && workload.learn.length > 0) continue;
      current = { peer: engine.name, workload: workload.name, family: workload.family };
      const runner = await engine.prepare(workload);
      await runner.run();
      runner.dispose();
    }
  }
  restore();
  return [...shaders.values()];
}

/** Lets buffers map at once, to zeros, and nothing wait for commands, which the driver may never call done. */
function ignoreResults(): void {
  GPUQueue.prototype.onSubmittedWorkDone = () => Promise.resolve(undefined);
  GPUDevice.prototype.popErrorScope = () => Promise.resolve(null);
  GPUBuffer.prototype.mapAsync = () => Promise.resolve(undefined);
  GPUBuffer.prototype.getMappedRange = function (this: GPUBuffer, offset = 0, size = this.size - offset) {
    return new ArrayBuffer(size);
  };
}

/** Calls `onPipeline` for every pipeline of any device, until the function that it returns is called. */
function watchPipelines(onPipeline: (label: string, code: string, entryPoint: string | undefined) => void): () => void {
  const { prototype } = GPUDevice;
  /* oxlint-disable typescript/unbound-method -- the functions below call them on their own device */
  const { createShaderModule, createComputePipeline, createComputePipelineAsync } = prototype;
  /* oxlint-enable typescript/unbound-method */
  const modules = new WeakMap<GPUShaderModule, GPUShaderModuleDescriptor>();
  const note = ({ label = "", compute: { module, entryPoint } }: GPUComputePipelineDescriptor): void => {
    const { code = "", label: moduleLabel = "" } = modules.get(module) ?? {};
    onPipeline(label || moduleLabel, code, entryPoint);
  };
  prototype.createShaderModule = function (descriptor: GPUShaderModuleDescriptor) {
    const module = createShaderModule.call(this, descriptor);
    modules.set(module, descriptor);
    return module;
  };
  prototype.createComputePipeline = function (descriptor: GPUComputePipelineDescriptor) {
    note(descriptor);
    return createComputePipeline.call(this, descriptor);
  };
  prototype.createComputePipelineAsync = function (descriptor: GPUComputePipelineDescriptor) {
    note(descriptor);
    return Promise.resolve(createComputePipeline.call(this, descriptor));
  };
  return () => Object.assign(prototype, { createShaderModule, createComputePipeline, createComputePipelineAsync });
}
