import type { Device } from "../../src/gpu/device";

/**
 * Makes allocations of a device fail as they do in Dawn: `createBuffer` returns an invalid buffer, and the innermost error
 * scope for "out-of-memory" receives a GPUOutOfMemoryError. Outside of such a scope, a refused allocation throws.
 */
export class Allocator {
  /** Calls of `createBuffer` since the last call of `refuse` or `allowAll`. */
  calls = 0;
  #refusedCall = Infinity;
  #refusesLater = false;
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
      const error = await pop();
      // Takes the place of the GPUError that Dawn would give.
      return (scope?.error ?? error) as GPUError | null;
    };
    handle.createBuffer = (descriptor) => {
      const call = ++this.calls;
      const isRefused = call === this.#refusedCall || (this.#refusesLater && call > this.#refusedCall);
      if (!isRefused) return createBuffer(descriptor);
      const scope = this.#scopes.findLast(({ filter }) => filter === "out-of-memory");
      if (!scope) throw new Error(`A buffer of ${descriptor.size} bytes is allocated outside of an error scope.`);
      scope.error ??= new OutOfMemory(descriptor.size);
      return invalid();
    };
  }

  /** Refuses the n-th allocation from now, counted from 1, and with `andLater` also all that follow. */
  refuse(n: number, { andLater = false } = {}): void {
    this.calls = 0;
    this.#refusedCall = n;
    this.#refusesLater = andLater;
  }

  /** Refuses no allocation from now on. */
  allowAll(): void {
    this.refuse(Infinity);
  }
}

/** An out-of-memory error with Dawn's message. */
class OutOfMemory extends Error {
  constructor(bytes: number) {
    super(
      `Failed to allocate memory for buffer: vkAllocateMemory of ${bytes} failed with VK_ERROR_OUT_OF_DEVICE_MEMORY`,
    );
  }
}
