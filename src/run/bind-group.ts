import { KernelError } from "../base/errors";
import { kernelInterface } from "../gpu/wgsl";
import type { Memory } from "../gpu/pool";
import type { PlannedLaunch, Target } from "../tape/plan";

interface LaunchResources {
  readonly pipeline: GPUComputePipeline;
  /** The launch's uniform block. */
  readonly params: { readonly buffer: GPUBuffer; readonly offset: number; readonly size: number };
  /** Returns the memory of a target. */
  readonly resolve: (target: Target) => Memory;
}

/** Creates the bind group of a launch. @throws KernelError for a variable that the kernel does not declare. */
export function createBindGroup(
  device: GPUDevice,
  { launch, bindings: plannedBindings, node }: PlannedLaunch,
  { pipeline, params, resolve }: LaunchResources,
): GPUBindGroup {
  const { kernel, entry } = launch;
  const { bindings, paramsBinding } = kernelInterface(kernel);
  const entries = plannedBindings.map(({ variable, target, offset, bytes }) => {
    const declared = bindings.get(variable);
    if (!declared) {
      throw new KernelError(
        `kernels/${kernel.name}.wgsl has no storage variable ${variable}, which ${node.label} binds (${entry}).`,
        `It declares ${[...bindings.keys()].join(", ")}.`,
      );
    }
    const memory = resolve(target);
    const resource = { buffer: memory.buffer, offset: memory.offset + offset, size: roundUp(bytes) };
    return { binding: declared.binding, resource };
  });
  if (paramsBinding !== undefined) entries.push({ binding: paramsBinding, resource: params });
  const label = `${kernel.name}.${entry} ${node.label}`;
  return device.createBindGroup({ label, layout: pipeline.getBindGroupLayout(0), entries });
}

const roundUp = (bytes: number): number => Math.ceil(bytes / 4) * 4;
