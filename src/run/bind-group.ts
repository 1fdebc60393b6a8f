import { KernelError } from "../base/errors";
import { kernelInterface } from "../gpu/wgsl";
import type { Memory } from "../gpu/pool";
import type { PlannedLaunch, Target } from "../tape/plan";

interface LaunchResources {
  readonly pipeline: GPUComputePipeline;
  /** Uniform blocks by variable: the launch's `params`, and those of what it absorbs. */
  readonly uniforms: ReadonlyMap<string, GPUBufferBinding>;
  /** Returns the memory of a target. */
  readonly resolve: (target: Target) => Memory;
}

/** Creates the bind group of a launch. @throws KernelError for a variable that the kernel does not declare. */
export function createBindGroup(
  device: GPUDevice,
  { launch, bindings: plannedBindings, node }: PlannedLaunch,
  { pipeline, uniforms, resolve }: LaunchResources,
): GPUBindGroup {
  const { kernel, entry } = launch;
  const { bindings, uniforms: declaredUniforms } = kernelInterface(kernel);
  const entries: GPUBindGroupEntry[] = plannedBindings.map(({ variable, target, offset, bytes }) => {
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
  for (const [variable, resource] of uniforms) {
    const binding = declaredUniforms.get(variable);
    if (binding !== undefined) entries.push({ binding, resource });
  }
  const label = `${kernel.name}.${entry} ${node.label}`;
  return device.createBindGroup({ label, layout: pipeline.getBindGroupLayout(0), entries });
}

const roundUp = (bytes: number): number => Math.ceil(bytes / 4) * 4;
