import { readFileSync } from "node:fs";
import type { Device } from "../../src/gpu/device";

/** Methods of GPUDevice that create objects. Encoders are counted separately, since a submit consumes its encoder. */
const CREATORS = [
  ...["createBuffer", "createBindGroup", "createBindGroupLayout", "createPipelineLayout", "createShaderModule"],
  ...["createComputePipeline", "createComputePipelineAsync", "createQuerySet", "createTexture", "createSampler"],
] as const;

type HostPhase = "uploads" | "encode" | "submit" | "waiting" | "readback";

/** WebGPU calls in an interval, and the time that the host spent in them. */
export interface HostCounts {
  /** Objects created, by the method that created them. */
  readonly objects: Record<string, number>;
  encoders: number;
  submits: number;
  writes: number;
  /** Number of times that the host waited for the device. */
  roundTrips: number;
  /** Wall time of each phase in milliseconds. */
  readonly ms: Record<HostPhase, number>;
  /** CPU milliseconds of the main thread while it waited: npm `webgpu` polls. */
  waitingCpu: number;
  /** Milliseconds from the moment the host learns that the queue is empty to the next submit. */
  idle: number;
}

/** CPU milliseconds of this thread so far, accurate to a few; NaN on systems other than Linux. */
function threadCpuMs(): number {
  try {
    return Number(readFileSync("/proc/thread-self/schedstat", "utf8").split(" ")[0]) / 1e6;
  } catch {
    return NaN;
  }
}

const noCounts = (): HostCounts => ({
  objects: {},
  encoders: 0,
  submits: 0,
  writes: 0,
  roundTrips: 0,
  waitingCpu: 0,
  idle: 0,
  ms: { uploads: 0, encode: 0, submit: 0, waiting: 0, readback: 0 },
});

/** Counts and times a device's WebGPU calls from its creation on, by replacing the device's methods. */
export class Watch {
  #counts = noCounts();
  #isWaiting = false;
  #submits = 0;
  /** When the queue became empty; undefined while work is submitted. */
  #emptySince: number | undefined;

  constructor({ handle: device }: Device) {
    for (const name of CREATORS) {
      replace(device, name, (create) => (...args) => {
        this.#counts.objects[name] = (this.#counts.objects[name] ?? 0) + 1;
        const object = create(...args);
        // This is the method's result, whose type `Call` does not keep.
        if (name === "createBuffer") this.#watchBuffer(object as GPUBuffer);
        return object;
      });
    }
    replace(device, "createCommandEncoder", (create) => (...args) => {
      this.#counts.encoders++;
      const start = performance.now();
      // This is the method's result, whose type `Call` does not keep.
      const encoder = create(...args) as GPUCommandEncoder;
      replace(encoder, "finish", (finish) => (...finishArgs) => {
        const commands = finish(...finishArgs);
        this.#counts.ms.encode += performance.now() - start;
        return commands;
      });
      return encoder;
    });
    const { queue } = device;
    const waitUntilEmpty = queue.onSubmittedWorkDone.bind(queue);
    replace(queue, "submit", (submit) => {
      const timed = this.#timed("submit", submit, () => this.#counts.submits++);
      return (...args) => {
        timed(...args);
        // The device is idle until the call returns, so the call itself counts as idle time.
        if (this.#emptySince !== undefined) this.#counts.idle += performance.now() - this.#emptySince;
        this.#emptySince = undefined;
        const index = ++this.#submits;
        // A lost device is reported where its work is awaited, not here.
        waitUntilEmpty().then(
          () => index === this.#submits && (this.#emptySince = performance.now()),
          () => undefined,
        );
      };
    });
    replace(queue, "writeBuffer", (write) => this.#timed("uploads", write, () => this.#counts.writes++));
    replace(queue, "onSubmittedWorkDone", (wait) => this.#awaited(wait));
  }

  #watchBuffer(buffer: GPUBuffer): void {
    replace(buffer, "mapAsync", (wait) => this.#awaited(wait));
    replace(buffer, "getMappedRange", (range) => this.#timed("readback", range));
    replace(buffer, "unmap", (unmap) => this.#timed("readback", unmap));
  }

  #timed(phase: HostPhase, call: Call, count?: () => void): Call {
    return (...args) => {
      count?.();
      const start = performance.now();
      const result = call(...args);
      this.#counts.ms[phase] += performance.now() - start;
      return result;
    };
  }

  /** Times a method whose promise is awaited. Waits that overlap are counted once. */
  #awaited(wait: Call): Call {
    return async (...args) => {
      this.#counts.roundTrips++;
      if (this.#isWaiting) return wait(...args);
      this.#isWaiting = true;
      const [start, cpuBefore] = [performance.now(), threadCpuMs()];
      try {
        return await wait(...args);
      } finally {
        this.#isWaiting = false;
        // Reading the CPU time takes part of a millisecond. It counts as waiting, since it is not the host's work.
        this.#counts.waitingCpu += threadCpuMs() - cpuBefore;
        this.#counts.ms.waiting += performance.now() - start;
      }
    };
  }

  /** Returns the counts since the last call of `take`. */
  take(): HostCounts {
    const counts = this.#counts;
    this.#counts = noCounts();
    return counts;
  }
}

type Call = (...args: unknown[]) => unknown;

/** Replaces a method of one WebGPU object by a wrapper around it. */
function replace(target: object, name: string, wrap: (original: Call) => Call): void {
  // The callers name methods that `target` has; one signature for all of them keeps the wrappers short.
  const original = ((target as Record<string, unknown>)[name] as Call).bind(target);
  Object.defineProperty(target, name, { value: wrap(original), configurable: true, writable: true });
}
