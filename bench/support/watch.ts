import { readFileSync } from "node:fs";
import type { Device } from "../../src/gpu/device";

/** Calls of the device that make an object which lasts. Encoders are told apart: a submit uses its encoder up. */
const MAKERS = [
  ...["createBuffer", "createBindGroup", "createBindGroupLayout", "createPipelineLayout", "createShaderModule"],
  ...["createComputePipeline", "createComputePipelineAsync", "createQuerySet", "createTexture", "createSampler"],
] as const;

const PHASES = ["uploads", "encode", "submit", "waiting", "readback"] as const;
export type HostPhase = (typeof PHASES)[number];

/** What was asked of WebGPU since the last look, and how long the host took over it. */
export interface Watched {
  readonly objects: Readonly<Record<string, number>>;
  readonly encoders: number;
  readonly submits: number;
  readonly writes: number;
  /** Times that the host waited for the device. */
  readonly roundTrips: number;
  /** Milliseconds by the clock. */
  readonly ms: Readonly<Record<HostPhase, number>>;
  /** Milliseconds of the main thread's CPU while it waited: npm `webgpu` asks again and again. */
  readonly waitingCpu: number;
  /** Milliseconds between the end of all that was submitted, when the host hears of it, and the next submit. */
  readonly idle: number;
}

/** CPU milliseconds of this thread so far, to a few; NaN where the system does not tell (only Linux does). */
function threadCpu(): number {
  try {
    return Number(readFileSync("/proc/thread-self/schedstat", "utf8").split(" ")[0]) / 1e6;
  } catch {
    return NaN;
  }
}

const nothing = () => ({
  objects: {} as Record<string, number>,
  encoders: 0,
  submits: 0,
  writes: 0,
  roundTrips: 0,
  waitingCpu: 0,
  idle: 0,
  ms: Object.fromEntries(PHASES.map((phase) => [phase, 0])) as Record<HostPhase, number>,
});

/** Counts and times what a device is asked for from now on. */
export class Watch {
  #seen = nothing();
  #isWaiting = false;
  #submits = 0;
  /** When the device had done all that was submitted. */
  #done: number | undefined;

  constructor({ handle: device }: Device) {
    for (const name of MAKERS) {
      replace(device, name, (make) => (...given) => {
        this.#seen.objects[name] = (this.#seen.objects[name] ?? 0) + 1;
        const made = make(...given);
        if (name === "createBuffer") this.#watchBuffer(made as GPUBuffer);
        return made;
      });
    }
    replace(device, "createCommandEncoder", (make) => (...given) => {
      this.#seen.encoders++;
      const start = performance.now();
      const encoder = make(...given) as GPUCommandEncoder;
      replace(encoder, "finish", (finish) => (...rest) => {
        const commands = finish(...rest);
        this.#seen.ms.encode += performance.now() - start;
        return commands;
      });
      return encoder;
    });
    const { queue } = device;
    const untilDone = queue.onSubmittedWorkDone.bind(queue);
    replace(queue, "submit", (submit) => {
      const timed = this.#timed("submit", submit, () => this.#seen.submits++);
      return (...given) => {
        timed(...given);
        // What the driver takes to accept it counts: the device begins at the end of that.
        if (this.#done !== undefined) this.#seen.idle += performance.now() - this.#done;
        this.#done = undefined;
        const own = ++this.#submits;
        // A lost device says so where its work is awaited.
        untilDone().then(
          () => own === this.#submits && (this.#done = performance.now()),
          () => undefined,
        );
      };
    });
    replace(queue, "writeBuffer", (write) => this.#timed("uploads", write, () => this.#seen.writes++));
    replace(queue, "onSubmittedWorkDone", (wait) => this.#waited(wait, true));
  }

  #watchBuffer(buffer: GPUBuffer): void {
    replace(buffer, "mapAsync", (wait) => this.#waited(wait, true));
    replace(buffer, "getMappedRange", (range) => this.#timed("readback", range));
    replace(buffer, "unmap", (unmap) => this.#timed("readback", unmap));
  }

  #timed(phase: HostPhase, call: Call, count?: () => void): Call {
    return (...given) => {
      count?.();
      const start = performance.now();
      const result = call(...given);
      this.#seen.ms[phase] += performance.now() - start;
      return result;
    };
  }

  /** Waiting within waiting counts once. */
  #waited(wait: Call, isRoundTrip: boolean): Call {
    return async (...given) => {
      if (isRoundTrip) this.#seen.roundTrips++;
      if (this.#isWaiting) return wait(...given);
      this.#isWaiting = true;
      const [start, cpu] = [performance.now(), threadCpu()];
      try {
        return await wait(...given);
      } finally {
        this.#isWaiting = false;
        // Asking for it takes a part of a millisecond, which is the watch's own and not the host's.
        this.#seen.waitingCpu += threadCpu() - cpu;
        this.#seen.ms.waiting += performance.now() - start;
      }
    };
  }

  /** What happened since the last call. */
  take(): Watched {
    const seen = this.#seen;
    this.#seen = nothing();
    return seen;
  }
}

type Call = (...given: unknown[]) => unknown;

/** Puts an own method before the one that an object of Dawn's has. */
function replace(target: object, name: string, by: (own: Call) => Call): void {
  const own = ((target as Record<string, unknown>)[name] as Call).bind(target);
  Object.defineProperty(target, name, { value: by(own), configurable: true, writable: true });
}
