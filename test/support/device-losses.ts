import type { Engine } from "../../src/engine";

const DEVICE_CALLS = ["createBuffer", "createShaderModule", "createComputePipelineAsync", "createBindGroup"] as const;
const QUEUE_CALLS = ["submit", "writeBuffer", "onSubmittedWorkDone"] as const;

/** Counts the calls of an engine's devices, and destroys a device right after a chosen call. */
export class DeviceLosses {
  #calls = 0;
  #destroyAt = Infinity;
  #handle: GPUDevice | undefined;
  /** Names of the calls after which a device was destroyed. */
  readonly after: string[] = [];

  constructor(private readonly engine: Engine) {
    this.watchDevice();
  }

  /** Calls so far, on all devices. */
  get calls(): number {
    return this.#calls;
  }

  /** Destroys the device after this many more calls. */
  destroyAfter(calls: number): void {
    this.#destroyAt = this.#calls + calls;
  }

  /** Counts the calls of the engine's current device too. */
  watchDevice(): void {
    const { handle } = this.engine.device;
    if (this.#handle === handle) return;
    this.#handle = handle;
    for (const name of DEVICE_CALLS) this.#watch(handle, handle, name);
    for (const name of QUEUE_CALLS) this.#watch(handle, handle.queue, name);
  }

  #watch<T extends object>(device: GPUDevice, owner: T, name: keyof T & string): void {
    // All of these names are methods; their types differ.
    const call = owner[name] as (...args: unknown[]) => unknown;
    const watched = (...args: unknown[]): unknown => {
      const result = call.apply(owner, args);
      this.#calls++;
      if (this.#calls >= this.#destroyAt) {
        this.#destroyAt = Infinity;
        this.after.push(name);
        device.destroy();
      }
      return result;
    };
    Object.defineProperty(owner, name, { value: watched, configurable: true });
  }
}
