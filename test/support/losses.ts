import type { Engine } from "../../src/engine";

/** Calls of a device that a loss may fall on. */
const CALLS = ["createBuffer", "createShaderModule", "createComputePipelineAsync", "createBindGroup"] as const;
const QUEUE_CALLS = ["submit", "writeBuffer", "onSubmittedWorkDone"] as const;

/** Counts the calls of an engine's devices, and destroys the device right after one of them. */
export class Losses {
  #calls = 0;
  #at = Infinity;
  #handle: GPUDevice | undefined;
  /** Names of the calls after which a device was destroyed. */
  readonly after: string[] = [];

  constructor(private readonly engine: Engine) {
    this.follow();
  }

  /** Calls so far. */
  get calls(): number {
    return this.#calls;
  }

  /** The device is destroyed after so many more calls. */
  arm(calls: number): void {
    this.#at = this.#calls + calls;
  }

  /** Watches the device that the engine has now. */
  follow(): void {
    const { handle } = this.engine.device;
    if (this.#handle === handle) return;
    this.#handle = handle;
    for (const name of CALLS) this.#watch(handle, handle, name);
    for (const name of QUEUE_CALLS) this.#watch(handle, handle.queue, name);
  }

  #watch<T extends object>(device: GPUDevice, owner: T, name: keyof T & string): void {
    const call = owner[name] as (...args: unknown[]) => unknown;
    const watched = (...args: unknown[]): unknown => {
      const result = call.apply(owner, args);
      this.#calls++;
      if (this.#calls >= this.#at) {
        this.#at = Infinity;
        this.after.push(name);
        device.destroy();
      }
      return result;
    };
    Object.defineProperty(owner, name, { value: watched, configurable: true });
  }
}
