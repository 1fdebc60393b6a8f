import { KernelError } from "../base/errors";
import type { Device } from "../gpu/device";
import { USAGE } from "../gpu/pool";
import type { Lease } from "../gpu/pool";
import { packUniforms } from "../gpu/uniforms";
import type { Uniforms } from "../gpu/uniforms";
import { chosenLaunch } from "../gpu/variants";
import { kernelInterface } from "../gpu/wgsl";
import type { Launch } from "../op/launch";
import type { Plan, PlannedLaunch, Target } from "../tape/plan";
import { readbackBytes, readbackLayout } from "./footprint";
import { gradientName } from "./store";

/** A plan with its uniforms, pipelines and bind groups: after the first run, a step makes no GPU object. */
export class CompiledPlan {
  readonly #uniforms: Uniforms;
  readonly #uniformLease: Lease;
  readonly #readback: Lease;
  #pipelines: Promise<GPUComputePipeline[]> | undefined;
  #ready: GPUComputePipeline[] = [];
  #groups: GPUBindGroup[] = [];
  #bound: GPUBuffer[] = [];
  readonly #targets: Target[];
  readonly #launches: readonly Launch[];

  constructor(
    readonly plan: Plan,
    private readonly device: Device,
  ) {
    this.#launches = plan.launches.map(({ launch }) => chosenLaunch(launch, device.variants));
    this.#uniforms = packUniforms(this.#launches);
    this.#uniformLease = device.pool.lease(this.#uniforms.data.byteLength, "scratch", USAGE.uniform | USAGE.copyTarget);
    device.handle.queue.writeBuffer(this.#uniformLease.buffer, 0, this.#uniforms.data);
    this.#readback = device.pool.lease(readbackBytes(plan), "scratch", USAGE.mapRead | USAGE.copyTarget);
    this.#targets = [...new Map(allTargets(plan).map((target) => [targetKey(target), target])).values()];
  }

  /** The pipelines, one per launch. */
  pipelines(): Promise<GPUComputePipeline[]> {
    this.#pipelines ??= Promise.all(this.#launches.map((launch) => this.device.pipelines.get(launch)));
    return this.#pipelines;
  }

  /** Makes the bind groups, unless they are made for these very buffers already. */
  async bind(buffers: readonly GPUBuffer[], find: (name: string) => GPUBuffer): Promise<void> {
    this.#ready = await this.pipelines();
    const resolve = (target: Target): GPUBuffer => {
      if (target.kind === "buffer") return buffers[target.index] as GPUBuffer;
      return find(target.kind === "gradient" ? gradientName(target.name) : target.name);
    };
    const wanted = this.#targets.map(resolve);
    if (wanted.length === this.#bound.length && wanted.every((buffer, i) => buffer === this.#bound[i])) return;
    this.#groups = this.plan.launches.map((planned, i) => this.#group(planned, i, resolve));
    this.#bound = wanted;
  }

  #group(planned: PlannedLaunch, index: number, resolve: (target: Target) => GPUBuffer): GPUBindGroup {
    const { kernel, entry } = this.#launches[index] as Launch;
    const { bindings, paramsBinding } = kernelInterface(kernel);
    const entries = planned.bindings.map(({ variable, target, offset, bytes }) => {
      const declared = bindings.get(variable);
      if (!declared) {
        throw new KernelError(
          `kernels/${kernel.name}.wgsl has no storage variable ${variable}, which ${planned.node.label} binds (${entry}).`,
          `It declares ${[...bindings.keys()].join(", ")}.`,
        );
      }
      return { binding: declared.binding, resource: { buffer: resolve(target), offset, size: roundUp(bytes) } };
    });
    if (paramsBinding !== undefined) {
      const resource = {
        buffer: this.#uniformLease.buffer,
        offset: this.#uniforms.offsets[index] as number,
        size: this.#uniforms.sizes[index] as number,
      };
      entries.push({ binding: paramsBinding, resource });
    }
    const layout = (this.#ready[index] as GPUComputePipeline).getBindGroupLayout(0);
    return this.device.handle.createBindGroup({
      label: `${kernel.name}.${entry} ${planned.node.label}`,
      layout,
      entries,
    });
  }

  /** Encodes all launches in one pass, and the copy of the outputs. */
  encode(encoder: GPUCommandEncoder): void {
    const pass = encoder.beginComputePass();
    const { workgroupsPerDimension: limit } = this.device.limits;
    this.#launches.forEach((launch, i) => {
      pass.setPipeline(this.#ready[i] as GPUComputePipeline);
      pass.setBindGroup(0, this.#groups[i]);
      const across = Math.min(launch.workgroups, limit);
      pass.dispatchWorkgroups(across, Math.ceil(launch.workgroups / across));
    });
    pass.end();
    for (const { port, offset, bytes } of readbackLayout(this.plan)) {
      encoder.copyBufferToBuffer(this.#bufferOf(port.buffer), 0, this.#readback.buffer, offset, bytes);
    }
  }

  #bufferOf(index: number): GPUBuffer {
    const position = this.#targets.findIndex((target) => target.kind === "buffer" && target.index === index);
    return this.#bound[position] as GPUBuffer;
  }

  /** Waits for the work and reads the outputs. */
  async read(): Promise<ReadonlyMap<string, Float32Array>> {
    const { buffer } = this.#readback;
    if (this.plan.outputs.size === 0) {
      await this.device.handle.queue.onSubmittedWorkDone();
      return new Map();
    }
    await buffer.mapAsync(1);
    const bytes = buffer.getMappedRange().slice(0);
    buffer.unmap();
    return new Map(
      readbackLayout(this.plan).map(({ name, offset, bytes: size }) => [
        name,
        new Float32Array(bytes, offset, size / 4),
      ]),
    );
  }

  dispose(): void {
    this.device.pool.return(this.#uniformLease);
    this.device.pool.return(this.#readback);
  }
}

const roundUp = (bytes: number): number => Math.ceil(bytes / 4) * 4;

const allTargets = (plan: Plan): Target[] =>
  plan.launches.flatMap(({ bindings }) => bindings.map(({ target }) => target));

const targetKey = (target: Target): string =>
  target.kind === "buffer" ? `buffer ${target.index}` : `${target.kind} ${target.name}`;
