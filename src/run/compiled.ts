import { ShapeError } from "../base/errors";
import { elements, formatShape } from "../base/shape";
import type { Device } from "../gpu/device";
import { USAGE } from "../gpu/pool";
import type { Lease, Memory } from "../gpu/pool";
import { packUniforms } from "../gpu/uniforms";
import type { Uniforms } from "../gpu/uniforms";
import { LOSS_GRADIENT } from "../tape/plan";
import type { Plan, Port, Target } from "../tape/plan";
import { reservedRanks } from "../tape/reserve";
import { createBindGroup } from "./bind-group";
import { deviceLaunches } from "./device-launches";
import type { DeviceLaunch } from "./device-launches";
import { readbackBytes, readbackLayout, stagingBytes, stagingLayout } from "./footprint";
import type { Inputs } from "./run";
import { gradientName } from "./store";

/** The arguments of a dispatch in a compute pass. */
interface Dispatch {
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  /** Workgroups in x and y. */
  readonly across: number;
  readonly down: number;
}

/** Where the buffer of a target comes from: the shared buffers, by rank, or a store, by name. */
type Source = { readonly rank: number } | { readonly name: string };

/** A plan with its uniforms, pipelines and bind groups. After the first run, running it again creates no GPU objects. */
export class CompiledPlan {
  readonly #uniforms: Uniforms;
  readonly #uniformLease: Lease;
  readonly #readback: Lease;
  readonly #staging: Lease | undefined;
  readonly #launches: readonly DeviceLaunch[];
  /** For each buffer of the plan, the rank of the shared buffer in which it lives. */
  readonly #ranks: readonly number[];
  /** The source of every buffer that the launches bind. Each run compares their buffers with those of the bind groups. */
  readonly #sources: readonly Source[];
  readonly #readbackLayout: ReturnType<typeof readbackLayout>;
  readonly #stagingLayout: ReturnType<typeof stagingLayout>;
  #pipelines: readonly GPUComputePipeline[] | undefined;
  #dispatches: readonly Dispatch[] = [];
  /** The memory for which the bind groups were created, one for each of `#sources`. */
  #bound: readonly Memory[] = [];
  /** The plan's buffers. */
  #buffers: readonly GPUBuffer[] = [];

  constructor(
    readonly plan: Plan,
    private readonly device: Device,
  ) {
    const { pool } = device;
    this.#launches = deviceLaunches(plan, device);
    this.#uniforms = packUniforms(plan.launches.map(({ launch }) => launch));
    this.#uniformLease = pool.lease(this.#uniforms.data.byteLength, "scratch", USAGE.uniform | USAGE.copyTarget);
    this.#readback = pool.lease(readbackBytes(plan), "scratch", USAGE.mapRead | USAGE.copyTarget);
    const staging = stagingBytes(plan);
    if (staging > 0) this.#staging = pool.lease(staging, "scratch", USAGE.copySource | USAGE.copyTarget);
    this.#ranks = reservedRanks(plan);
    const targets = new Map(allTargets(plan).map((target) => [targetKey(target), target]));
    this.#sources = [...targets.values()].map((target) => this.#sourceOf(target));
    this.#readbackLayout = readbackLayout(plan);
    this.#stagingLayout = stagingLayout(plan);
  }

  /** Writes the uniforms, which are the same in every run. The driver must have granted the buffers. */
  writeUniforms(): void {
    this.device.handle.queue.writeBuffer(this.#uniformLease.buffer, 0, this.#uniforms.data);
  }

  /** Creates the pipelines. @throws KernelError when a kernel does not compile. */
  async compile(): Promise<void> {
    this.#pipelines ??= await Promise.all(this.#launches.map(({ launch }) => this.device.pipelines.get(launch)));
  }

  get isCompiled(): boolean {
    return this.#pipelines !== undefined;
  }

  /**
   * Creates the bind groups, unless they exist for the same buffers. The plan must be compiled.
   * @param shared the buffers that all plans share, by rank.
   * @param find finds the memory of a tensor that outlives the plan.
   * @returns whether commands that were encoded before are still valid.
   */
  bind(shared: readonly Lease[], find: (name: string) => Memory): boolean {
    const memoryOf = (source: Source): Memory => ("rank" in source ? shared[source.rank]! : find(source.name));
    const isBound =
      this.#bound.length > 0 && this.#sources.every((source, i) => isSame(memoryOf(source), this.#bound[i]!));
    if (isBound) return true;
    const resolve = (target: Target): Memory => memoryOf(this.#sourceOf(target));
    this.#dispatches = this.#launches.map((launch, i) => this.#dispatch(launch, this.#pipelines![i]!, resolve));
    this.#bound = this.#sources.map(memoryOf);
    this.#buffers = this.plan.buffers.map((_, index) => resolve({ kind: "buffer", index }).buffer);
    return false;
  }

  #sourceOf(target: Target): Source {
    if (target.kind === "buffer") return { rank: this.#ranks[target.index]! };
    return { name: target.kind === "gradient" ? gradientName(target.name) : target.name };
  }

  #dispatch(planned: DeviceLaunch, pipeline: GPUComputePipeline, resolve: (target: Target) => Memory): Dispatch {
    const { index, launch, absorbed } = planned;
    const { workgroups } = launch;
    const across = Math.min(workgroups, this.device.limits.workgroupsPerDimension);
    const block = (of: number): GPUBufferBinding => ({
      buffer: this.#uniformLease.buffer,
      offset: this.#uniforms.offsets[of]!,
      size: this.#uniforms.sizes[of]!,
    });
    const uniforms = new Map([...new Map([["params", index], ...absorbed])].map(([name, of]) => [name, block(of)]));
    const group = createBindGroup(this.device.handle, planned, { pipeline, uniforms, resolve });
    return { pipeline, group, across, down: Math.ceil(workgroups / across) };
  }

  /**
   * Writes the inputs, into the staging buffer if the plan is staged, else in place.
   * @param passed names of inputs to leave out, because earlier runs pass them on the device.
   * @throws ShapeError for missing inputs and for inputs of another size; nothing is then written.
   */
  upload(data: Inputs, passed: ReadonlySet<string>): void {
    const inputs: Inputs = { [LOSS_GRADIENT]: Float32Array.of(1), ...this.plan.constants, ...data };
    const ports = [...this.plan.inputs].filter(([name]) => !passed.has(name));
    for (const [name, port] of ports) checkInput(name, port, inputs[name]);
    for (const [name] of ports) {
      const { buffer, offset } = this.inputLocation(name);
      this.device.upload(buffer, offset, inputs[name]!);
    }
  }

  /** Where an input has to be written. */
  inputLocation(name: string): { readonly buffer: GPUBuffer; readonly offset: number } {
    const staged = this.#stagingLayout.find((entry) => entry.name === name);
    if (staged) return { buffer: this.#staging!.buffer, offset: staged.offset };
    return { buffer: this.#bufferOf(this.plan.inputs.get(name)), offset: 0 };
  }

  /** The buffer that holds an output right after a run. */
  outputBuffer(name: string): GPUBuffer {
    return this.#bufferOf(this.plan.outputs.get(name));
  }

  #bufferOf(port: Port | undefined): GPUBuffer {
    return this.#buffers[port!.buffer]!;
  }

  /** The dispatches in their order, and what encodes each in a compute pass. The plan must be bound. */
  get dispatches(): readonly {
    readonly launch: DeviceLaunch;
    readonly encode: (pass: GPUComputePassEncoder) => void;
  }[] {
    return this.#dispatches.map((dispatch, i) => ({
      launch: this.#launches[i]!,
      encode: (pass) => {
        pass.setPipeline(dispatch.pipeline);
        pass.setBindGroup(0, dispatch.group);
        pass.dispatchWorkgroups(dispatch.across, dispatch.down);
      },
    }));
  }

  /** Encodes the copies of staged inputs. */
  encodeInputs(encoder: GPUCommandEncoder): void {
    for (const { port, offset, bytes } of this.#stagingLayout) {
      encoder.copyBufferToBuffer(this.#staging!.buffer, offset, this.#bufferOf(port), 0, bytes);
    }
  }

  /** Encodes the copies of staged inputs, then all launches in one compute pass. */
  encode(encoder: GPUCommandEncoder): void {
    this.encodeInputs(encoder);
    const pass = encoder.beginComputePass();
    let currentPipeline: GPUComputePipeline | undefined;
    for (const { pipeline, group, across, down } of this.#dispatches) {
      if (pipeline !== currentPipeline) pass.setPipeline(pipeline);
      currentPipeline = pipeline;
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(across, down);
    }
    pass.end();
  }

  /** Encodes the copies of the outputs into the buffer that `read` maps. */
  encodeReadback(encoder: GPUCommandEncoder): void {
    for (const { port, offset, bytes } of this.#readbackLayout) {
      encoder.copyBufferToBuffer(this.#bufferOf(port), 0, this.#readback.buffer, offset, bytes);
    }
  }

  /** Waits for the submitted work and reads the outputs, by name. */
  async read(): Promise<ReadonlyMap<string, Float32Array>> {
    const { buffer } = this.#readback;
    if (this.plan.outputs.size === 0) {
      await this.device.handle.queue.onSubmittedWorkDone();
      return new Map();
    }
    await buffer.mapAsync(USAGE.mapRead);
    const data = buffer.getMappedRange().slice(0);
    buffer.unmap();
    return new Map(
      this.#readbackLayout.map(({ name, offset, bytes }) => [name, new Float32Array(data, offset, bytes / 4)]),
    );
  }

  dispose(): void {
    this.device.pool.return(this.#uniformLease);
    this.device.pool.return(this.#readback);
    if (this.#staging) this.device.pool.return(this.#staging);
  }
}

const isSame = (a: Memory, b: Memory): boolean => a.buffer === b.buffer && a.offset === b.offset;

const allTargets = (plan: Plan): Target[] =>
  plan.launches.flatMap(({ bindings }) => bindings.map(({ target }) => target));

const targetKey = (target: Target): string =>
  target.kind === "buffer" ? `buffer ${target.index}` : `${target.kind} ${target.name}`;

function checkInput(name: string, { spec }: Port, data: Inputs[string] | undefined): void {
  if (data?.length === elements(spec.shape)) return;
  throw new ShapeError(
    `The input ${name} ${data ? `has ${data.length} elements` : "is missing"}; the plan needs ${formatShape(spec.shape)}.`,
    "Give every input of the plan, in the shape with which it was traced.",
  );
}
