import { ShapeError } from "../base/errors";
import { elements, formatShape } from "../base/shape";
import type { Device } from "../gpu/device";
import { USAGE } from "../gpu/pool";
import type { Lease } from "../gpu/pool";
import { packUniforms } from "../gpu/uniforms";
import type { Uniforms } from "../gpu/uniforms";
import { LOSS_GRADIENT } from "../tape/plan";
import type { Plan, Port, Target } from "../tape/plan";
import { reservedRanks } from "../tape/reserve";
import { makeBindGroup } from "./bind-group";
import { chosenLaunches } from "./chosen";
import type { Chosen } from "./chosen";
import { readbackBytes, readbackLayout, stagingBytes, stagingLayout } from "./footprint";
import type { Inputs } from "./run";
import { gradientName } from "./store";

/** A launch as a pass is told of it. */
interface Dispatch {
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly across: number;
  readonly down: number;
}

/** Where a target's buffer is found: among the shared ones by rank, or in a store by name. */
type Place = { readonly rank: number } | { readonly name: string };

/** A plan with its uniforms, pipelines and bind groups: after the first run, a step makes no GPU object. */
export class CompiledPlan {
  readonly #uniforms: Uniforms;
  readonly #uniformLease: Lease;
  readonly #readback: Lease;
  readonly #staging: Lease | undefined;
  /** As this device runs them. */
  readonly #launches: readonly Chosen[];
  readonly #rank: readonly number[];
  /** Of every target once: looked up before each run, to see whether the bind groups still hold. */
  readonly #places: readonly Place[];
  readonly #readbackLayout: ReturnType<typeof readbackLayout>;
  readonly #stagingLayout: ReturnType<typeof stagingLayout>;
  #pipelines: readonly GPUComputePipeline[] | undefined;
  #dispatches: readonly Dispatch[] = [];
  #bound: readonly GPUBuffer[] = [];
  /** The buffer of each of the plan's own. */
  #buffers: readonly GPUBuffer[] = [];

  constructor(
    readonly plan: Plan,
    private readonly device: Device,
  ) {
    const { pool } = device;
    this.#launches = chosenLaunches(plan, device);
    this.#uniforms = packUniforms(plan.launches.map(({ launch }) => launch));
    this.#uniformLease = pool.lease(this.#uniforms.data.byteLength, "scratch", USAGE.uniform | USAGE.copyTarget);
    this.#readback = pool.lease(readbackBytes(plan), "scratch", USAGE.mapRead | USAGE.copyTarget);
    const staged = stagingBytes(plan);
    if (staged > 0) this.#staging = pool.lease(staged, "scratch", USAGE.copySource | USAGE.copyTarget);
    this.#rank = reservedRanks(plan);
    const targets = new Map(allTargets(plan).map((target) => [targetKey(target), target]));
    this.#places = [...targets.values()].map((target) => this.#placeOf(target));
    this.#readbackLayout = readbackLayout(plan);
    this.#stagingLayout = stagingLayout(plan);
  }

  /** Writes what stays the same in every run, once its buffers are known to exist. */
  fill(): void {
    this.device.handle.queue.writeBuffer(this.#uniformLease.buffer, 0, this.#uniforms.data);
  }

  /** Makes the pipelines, one per launch. @throws KernelError when a kernel does not compile. */
  async compile(): Promise<void> {
    this.#pipelines ??= await Promise.all(this.#launches.map(({ launch }) => this.device.pipelines.get(launch)));
  }

  get isReady(): boolean {
    return this.#pipelines !== undefined;
  }

  /**
   * Makes the bind groups, unless they are made for these very buffers already; `compile` comes first.
   * @param shared the buffers of all plans, by rank.
   * @returns whether what was encoded before still holds.
   */
  bind(shared: readonly Lease[], find: (name: string) => GPUBuffer): boolean {
    const bufferAt = (place: Place): GPUBuffer => ("rank" in place ? shared[place.rank]!.buffer : find(place.name));
    const isSame = this.#bound.length > 0 && this.#places.every((place, i) => bufferAt(place) === this.#bound[i]);
    if (isSame) return true;
    const resolve = (target: Target): GPUBuffer => bufferAt(this.#placeOf(target));
    this.#dispatches = this.#launches.map((chosen, i) => this.#dispatch(chosen, i, resolve));
    this.#bound = this.#places.map(bufferAt);
    this.#buffers = this.plan.buffers.map((_, index) => resolve({ kind: "buffer", index }));
    return false;
  }

  #placeOf(target: Target): Place {
    if (target.kind === "buffer") return { rank: this.#rank[target.index]! };
    return { name: target.kind === "gradient" ? gradientName(target.name) : target.name };
  }

  #dispatch(chosen: Chosen, place: number, resolve: (target: Target) => GPUBuffer): Dispatch {
    const pipeline = this.#pipelines![place]!;
    const { index, launch } = chosen;
    const { workgroups } = launch;
    const across = Math.min(workgroups, this.device.limits.workgroupsPerDimension);
    const params = {
      buffer: this.#uniformLease.buffer,
      offset: this.#uniforms.offsets[index]!,
      size: this.#uniforms.sizes[index]!,
    };
    const group = makeBindGroup(this.device.handle, chosen, { pipeline, params, resolve });
    return { pipeline, group, across, down: Math.ceil(workgroups / across) };
  }

  /**
   * Writes the inputs, but those that an earlier run passes: a staged plan's into its staging buffer, others' in place.
   * @throws ShapeError for missing or ill-sized inputs; nothing is then written.
   */
  upload(given: Inputs, passed: ReadonlySet<string>): void {
    const inputs: Inputs = { [LOSS_GRADIENT]: Float32Array.of(1), ...given };
    const wanted = [...this.plan.inputs].filter(([name]) => !passed.has(name));
    for (const [name, port] of wanted) checkInput(name, port, inputs[name]);
    for (const [name] of wanted) {
      const { buffer, offset } = this.inputPlace(name);
      this.device.upload(buffer, offset, inputs[name]!);
    }
  }

  /** Where an input is to be written. */
  inputPlace(name: string): { readonly buffer: GPUBuffer; readonly offset: number } {
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

  /** Encodes all launches in one pass, after the copies of staged inputs. */
  encode(encoder: GPUCommandEncoder): void {
    for (const { port, offset, bytes } of this.#stagingLayout) {
      encoder.copyBufferToBuffer(this.#staging!.buffer, offset, this.#bufferOf(port), 0, bytes);
    }
    const pass = encoder.beginComputePass();
    let current: GPUComputePipeline | undefined;
    for (const { pipeline, group, across, down } of this.#dispatches) {
      if (pipeline !== current) pass.setPipeline(pipeline);
      current = pipeline;
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(across, down);
    }
    pass.end();
  }

  /** Encodes the copies of the outputs for `read`. */
  encodeReadback(encoder: GPUCommandEncoder): void {
    for (const { port, offset, bytes } of this.#readbackLayout) {
      encoder.copyBufferToBuffer(this.#bufferOf(port), 0, this.#readback.buffer, offset, bytes);
    }
  }

  /** Waits for the work and reads the outputs. */
  async read(): Promise<ReadonlyMap<string, Float32Array>> {
    const { buffer } = this.#readback;
    if (this.plan.outputs.size === 0) {
      await this.device.handle.queue.onSubmittedWorkDone();
      return new Map();
    }
    await buffer.mapAsync(1);
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

const allTargets = (plan: Plan): Target[] =>
  plan.launches.flatMap(({ bindings }) => bindings.map(({ target }) => target));

const targetKey = (target: Target): string =>
  target.kind === "buffer" ? `buffer ${target.index}` : `${target.kind} ${target.name}`;

function checkInput(name: string, { spec }: Port, data: Inputs[string] | undefined): void {
  if (data?.length === elements(spec.shape)) return;
  throw new ShapeError(
    `The input ${name} ${data ? `has ${data.length} elements` : "is missing"}; the plan wants ${formatShape(spec.shape)}.`,
    "Give every input of the plan in the shape it was traced with.",
  );
}
