import { appliedVariant } from "../gpu/variants";
import { kernelInterface } from "../gpu/wgsl";
import type { Device } from "../gpu/device";
import { USAGE } from "../gpu/pool";
import type { CompiledPlan } from "./compiled";
import type { DeviceLaunch } from "./device-launches";
import type { Dispatch, Trace } from "./trace";

/** How many dispatches are timed by one query set: WebGPU allows 4096 queries, two of a dispatch. */
const DISPATCHES_A_SET = 2048;

/** A dispatch that is to be timed. */
interface UntimedDispatch {
  readonly launch: DeviceLaunch;
  readonly encode: (pass: GPUComputePassEncoder) => void;
}

/** Times dispatches one by one: on the device where it has timestamps, by the host's clock elsewhere. */
export class DispatchClock {
  readonly clock: Trace["clock"];
  readonly dispatches: Dispatch[] = [];

  constructor(private readonly device: Device) {
    this.clock = device.handle.features.has("timestamp-query") ? "device" : "host";
  }

  /** Runs a bound plan whose inputs are uploaded, and adds what it dispatched. @param phase in place of the plan's own phases. */
  async run(compiled: CompiledPlan, phase: Dispatch["phase"] | undefined): Promise<void> {
    const { queue } = this.device.handle;
    const encoder = this.device.handle.createCommandEncoder();
    compiled.encodeInputs(encoder);
    queue.submit([encoder.finish()]);
    await queue.onSubmittedWorkDone();
    const { dispatches } = compiled;
    for (let start = 0; start < dispatches.length; start += DISPATCHES_A_SET) {
      const part = dispatches.slice(start, start + DISPATCHES_A_SET);
      const times = await (this.clock === "device" ? this.#onDevice(part) : this.#onHost(part));
      part.forEach(({ launch }, i) => this.dispatches.push(dispatchOf(launch, times[i]!, phase)));
    }
  }

  /** Milliseconds of each dispatch, by the device: each is a compute pass of its own with two timestamps. */
  async #onDevice(part: readonly UntimedDispatch[]): Promise<number[]> {
    const { handle, pool } = this.device;
    const count = 2 * part.length;
    const querySet = handle.createQuerySet({ type: "timestamp", count });
    const resolved = pool.lease(8 * count, "scratch", USAGE.queryResolve | USAGE.copySource);
    const readable = pool.lease(8 * count, "scratch", USAGE.mapRead | USAGE.copyTarget);
    try {
      const encoder = handle.createCommandEncoder();
      part.forEach(({ encode }, i) => {
        const timestampWrites = { querySet, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 };
        const pass = encoder.beginComputePass({ timestampWrites });
        encode(pass);
        pass.end();
      });
      encoder.resolveQuerySet(querySet, 0, count, resolved.buffer, 0);
      encoder.copyBufferToBuffer(resolved.buffer, 0, readable.buffer, 0, 8 * count);
      handle.queue.submit([encoder.finish()]);
      await this.device.wait(readable.buffer.mapAsync(USAGE.mapRead));
      const nanoseconds = new BigUint64Array(readable.buffer.getMappedRange().slice(0));
      readable.buffer.unmap();
      return part.map((_, i) => Number(nanoseconds[2 * i + 1]! - nanoseconds[2 * i]!) / 1e6);
    } finally {
      querySet.destroy();
      pool.return(resolved);
      pool.return(readable);
    }
  }

  /** Milliseconds of each dispatch, by the host's clock: each is submitted alone and waited for, which adds the time of a submission. */
  async #onHost(part: readonly UntimedDispatch[]): Promise<number[]> {
    const { handle } = this.device;
    const times: number[] = [];
    for (const { encode } of part) {
      const encoder = handle.createCommandEncoder();
      const pass = encoder.beginComputePass();
      encode(pass);
      pass.end();
      const start = performance.now();
      handle.queue.submit([encoder.finish()]);
      // The device's own waiting may sleep, which is too coarse for one dispatch.
      await handle.queue.onSubmittedWorkDone();
      times.push(performance.now() - start);
    }
    return times;
  }
}

function dispatchOf(
  { launch, node, count, bindings, flops, phase, shape }: DeviceLaunch,
  ms: number,
  asked: Dispatch["phase"] | undefined,
): Dispatch {
  const declared = kernelInterface(launch.kernel).bindings;
  const bytes = (writable: boolean): number =>
    bindings.reduce((sum, each) => sum + (declared.get(each.variable)?.writable === writable ? each.bytes : 0), 0);
  return {
    phase: asked ?? phase,
    op: node.op.name,
    label: node.label,
    kernel: launch.kernel.name,
    entry: launch.entry,
    variant: appliedVariant(launch)?.name ?? "portable",
    shape,
    workgroups: launch.workgroups,
    launches: count,
    flops,
    bytesRead: bytes(false),
    bytesWritten: bytes(true),
    ms,
  };
}
