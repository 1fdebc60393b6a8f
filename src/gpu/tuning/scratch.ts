import { Random } from "../../base/random";
import type { Launch } from "../../op/launch";
import type { Device } from "../device";
import { USAGE } from "../pool";
import type { Lease } from "../pool";
import { readBuffer } from "../readback";
import { packUniforms } from "../uniforms";
import { kernelInterface } from "../wgsl";

/** A launch with the number of bytes to which each variable is bound, as in a planned launch. */
export interface BoundLaunch {
  readonly launch: Launch;
  readonly bindings: readonly {
    readonly variable: string;
    readonly bytes: number;
    /** The variable of the `Scratch` to whose buffer it is bound. Default: the one of the same name. */
    readonly buffer?: string;
  }[];
  /** Uniform variable -> the launch whose params it holds, for those that it absorbs. */
  readonly absorbed?: ReadonlyMap<string, Launch>;
}

const roundUp = (bytes: number): number => Math.max(4, Math.ceil(bytes / 4) * 4);

/** Bytes of a `Scratch`. */
export function scratchBytes(bindings: BoundLaunch["bindings"], launches: readonly Launch[]): number {
  const uniforms = packUniforms(launches).data.byteLength;
  return bindings.reduce((sum, { bytes }) => sum + roundUp(bytes), uniforms);
}

/** Words that fill the buffers, again and again. The number is a prime, so that no two rows of a table are equal. */
const PATTERN = 65521;
/** Distance of the words at which two variables begin, so that no two tables are equal. */
const STRIDE = 9973;

/**
 * Words whose halves lie between 0x3c00 and 0x3fff. They are positive and below 2 whatever a kernel reads them as: f32, two of
 * f16 or bf16, or a packed row.
 */
function patternWords(): Uint32Array<ArrayBuffer> {
  const random = new Random(1);
  const half = (): number => 0x3c00 + random.below(0x400);
  return Uint32Array.from({ length: PATTERN }, () => half() * 0x10000 + half());
}

/** Masks and labels, 0 or 1, which an index may be made of. */
function indexWords(): Uint32Array<ArrayBuffer> {
  const random = new Random(2);
  return Uint32Array.from({ length: PATTERN }, () => random.below(2));
}

/**
 * Buffers of the real sizes of a launch, on which it runs by itself, to be timed or compared. The ledger counts them while
 * they exist.
 */
export class Scratch {
  readonly #leases = new Map<string, Lease>();
  readonly #words: Uint32Array<ArrayBuffer> = patternWords();
  readonly #indices: Uint32Array<ArrayBuffer> = indexWords();
  readonly #declared: ReturnType<typeof kernelInterface>["bindings"];
  readonly #uniforms: Lease;
  readonly #uniformData: Uint8Array<ArrayBuffer>;
  /** Where the uniform blocks are, by what they hold. */
  readonly #blocks = new Map<Launch["params"], { readonly offset: number; readonly size: number }>();

  /**
   * Leases the buffers; `write` gives them their contents once the driver has granted them.
   * @param bindings the variables of all launches.
   * @param launches those that run on the buffers, or whose params do. Variants of the first may run, too.
   */
  constructor(
    private readonly device: Device,
    bindings: BoundLaunch["bindings"],
    launches: readonly [Launch, ...Launch[]],
  ) {
    const { pool } = device;
    this.#declared = kernelInterface(launches[0].kernel).bindings;
    for (const { variable, bytes } of bindings) this.#leases.set(variable, pool.lease(bytes, "scratch"));
    const { data, offsets, sizes } = packUniforms(launches);
    launches.forEach(({ params }, i) => this.#blocks.set(params, { offset: offsets[i]!, size: sizes[i]! }));
    this.#uniforms = pool.lease(data.byteLength, "scratch", USAGE.uniform | USAGE.copyTarget);
    this.#uniformData = data;
  }

  /** Writes uniforms and words. */
  write(): void {
    this.device.handle.queue.writeBuffer(this.#uniforms.buffer, 0, this.#uniformData);
    this.fill([...this.#leases.keys()]);
  }

  /** The variables that kernels write. */
  get written(): string[] {
    return [...this.#leases.keys()].filter((variable) => this.#declared.get(variable)?.writable);
  }

  /** Writes words into the buffers of some variables, the same in every call. */
  fill(variables: readonly string[]): void {
    [...this.#leases].forEach(([variable, { buffer, bytes }], i) => {
      if (!variables.includes(variable)) return;
      const words = this.#declared.get(variable)?.element === "i32" ? this.#indices : this.#words;
      let first = (i * STRIDE) % PATTERN;
      for (let offset = 0; offset < bytes;) {
        const count = Math.min(PATTERN - first, (bytes - offset) / 4);
        this.device.handle.queue.writeBuffer(buffer, offset, words, first, count);
        offset += count * 4;
        first = 0;
      }
    });
  }

  /** Reads the buffer of a variable. Throws as `readBuffer` does. */
  async read(variable: string): Promise<ArrayBuffer> {
    return readBuffer(this.device, this.#leases.get(variable)!);
  }

  /** Encodes a launch, or a variant of it. Its `bindings` are the variables that the entry binds. */
  encode(
    pass: GPUComputePassEncoder,
    { launch, bindings: bound, absorbed }: BoundLaunch,
    pipeline: GPUComputePipeline,
    repeats = 1,
  ): void {
    const { kernel, params, workgroups } = launch;
    const { bindings, uniforms } = kernelInterface(kernel);
    const entries: GPUBindGroupEntry[] = bound.map(({ variable, buffer = variable }) => ({
      binding: bindings.get(variable)!.binding,
      resource: { buffer: this.#leases.get(buffer)!.buffer },
    }));
    for (const [name, binding] of uniforms) {
      const block = this.#blocks.get(absorbed?.get(name)?.params ?? params)!;
      entries.push({ binding, resource: { buffer: this.#uniforms.buffer, ...block } });
    }
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, this.device.handle.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
    const across = Math.min(workgroups, this.device.limits.workgroupsPerDimension);
    for (let i = 0; i < repeats; i++) pass.dispatchWorkgroups(across, Math.ceil(workgroups / across));
  }

  dispose(): void {
    for (const lease of [...this.#leases.values(), this.#uniforms]) this.device.pool.return(lease);
  }
}
