import { Random } from "../../base/random";
import type { Launch } from "../../op/launch";
import type { Device } from "../device";
import { USAGE } from "../pool";
import type { Lease } from "../pool";
import { packUniforms } from "../uniforms";
import { kernelInterface } from "../wgsl";

/** A launch with the number of bytes to which each variable is bound, as in a planned launch. */
export interface BoundLaunch {
  readonly launch: Launch;
  readonly bindings: readonly { readonly variable: string; readonly bytes: number }[];
}

const roundUp = (bytes: number): number => Math.max(4, Math.ceil(bytes / 4) * 4);

/** Bytes of the buffers on which a launch is timed. */
export function scratchBytes({ launch, bindings }: BoundLaunch): number {
  const uniforms = packUniforms([launch]).data.byteLength;
  return bindings.reduce((sum, { bytes }) => sum + roundUp(bytes), uniforms);
}

/** Number of values, from 1 to 2, that fill the buffers. They also work as masks, seeds and codes. */
const PATTERN = 1 << 16;

/** Buffers of a launch's real sizes, on which it is timed. The ledger counts them while they exist. */
export class Scratch {
  readonly #leases = new Map<string, Lease>();
  readonly #uniforms: Lease;
  readonly #uniformSize: number;

  constructor(
    private readonly device: Device,
    { launch, bindings }: BoundLaunch,
  ) {
    const { pool, handle } = device;
    const random = new Random(1);
    const pattern = Float32Array.from({ length: PATTERN }, () => 1 + random.uniform());
    for (const { variable, bytes } of bindings) {
      const lease = pool.lease(bytes, "scratch");
      this.#leases.set(variable, lease);
      for (let offset = 0; offset < lease.bytes; offset += pattern.byteLength) {
        const size = Math.min(pattern.byteLength, lease.bytes - offset);
        handle.queue.writeBuffer(lease.buffer, offset, pattern, 0, size / 4);
      }
    }
    const { data, sizes } = packUniforms([launch]);
    this.#uniformSize = sizes[0]!;
    this.#uniforms = pool.lease(data.byteLength, "scratch", USAGE.uniform | USAGE.copyTarget);
    handle.queue.writeBuffer(this.#uniforms.buffer, 0, data);
  }

  /** The bind group of a launch, or of a variant of it. */
  bind({ kernel }: Launch, pipeline: GPUComputePipeline): GPUBindGroup {
    const { bindings, uniforms } = kernelInterface(kernel);
    const entries: GPUBindGroupEntry[] = [...this.#leases].map(([variable, { buffer }]) => ({
      binding: bindings.get(variable)!.binding,
      resource: { buffer },
    }));
    const resource = { buffer: this.#uniforms.buffer, size: this.#uniformSize };
    const params = uniforms.get("params");
    if (params !== undefined) entries.push({ binding: params, resource });
    return this.device.handle.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
  }

  dispose(): void {
    for (const lease of [...this.#leases.values(), this.#uniforms]) this.device.pool.return(lease);
  }
}
