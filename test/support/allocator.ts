import type { Device } from "../../src/gpu/device";

/**
 * Stands before a device's own allocator and refuses as Dawn does: the buffer that is returned is an invalid one, and the
 * innermost scope for it, or else the device, is told of a GPUOutOfMemoryError.
 */
export class Allocator {
  /** Buffers asked for since the last reset. */
  calls = 0;
  /** The call that is refused, from 1. */
  refuses = Infinity;
  /** Whether all later ones are refused too. */
  goesOn = false;
  readonly #scopes: { readonly filter: string; error: unknown }[] = [];

  constructor({ handle }: Device) {
    const createBuffer = handle.createBuffer.bind(handle);
    const push = handle.pushErrorScope.bind(handle);
    const pop = handle.popErrorScope.bind(handle);
    const invalid = (): GPUBuffer => {
      push("validation");
      const buffer = createBuffer({ size: 4, usage: 0 });
      void pop();
      return buffer;
    };
    handle.pushErrorScope = (filter) => {
      this.#scopes.push({ filter, error: undefined });
      push(filter);
    };
    handle.popErrorScope = async () => {
      const scope = this.#scopes.pop();
      const own = await pop();
      return (scope?.error ?? own) as GPUError | null;
    };
    handle.createBuffer = (descriptor) => {
      const call = ++this.calls;
      if (call !== this.refuses && !(this.goesOn && call > this.refuses)) return createBuffer(descriptor);
      const scope = this.#scopes.findLast(({ filter }) => filter === "out-of-memory");
      if (!scope) throw new Error(`A buffer of ${descriptor.size} bytes is made where nobody would hear of a refusal.`);
      scope.error ??= new OutOfMemory(descriptor.size);
      return invalid();
    };
  }

  /** From now on the n-th buffer is refused. */
  refuse(n: number, goesOn = false): void {
    [this.calls, this.refuses, this.goesOn] = [0, n, goesOn];
  }

  allowAll(): void {
    this.refuse(Infinity);
  }
}

/** What Dawn's error looks like. */
class OutOfMemory extends Error {
  constructor(bytes: number) {
    super(
      `Failed to allocate memory for buffer: vkAllocateMemory of ${bytes} failed with VK_ERROR_OUT_OF_DEVICE_MEMORY`,
    );
  }
}
