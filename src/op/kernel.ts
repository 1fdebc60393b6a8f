/**
 * A WGSL module: the name of its file under `kernels/` without `.wgsl`, its text, and the parts that it imports. A line
 * `#import lib/NAME` of the text stands for the part of that name. An import of a `.wgsl` file gives such an object.
 */
export interface Kernel {
  readonly name: string;
  readonly code: string;
  readonly imports?: readonly Kernel[];
  /** Parts that are inserted for others, by the names of the others. */
  readonly substitutes?: Readonly<Record<string, Kernel>>;
  /**
   * Loads `code` and `imports` where the bundler made a file of their own of them; until then `code` declares `params` alone. Undefined
   * once they are there.
   */
  readonly load?: (() => Promise<void>) | undefined;
}

/** A kernel with other parts in place of some. It has the original's text, also when that is loaded later. */
export function substituting(kernel: Kernel, substitutes: NonNullable<Kernel["substitutes"]>): Kernel {
  // TypeScript does not follow prototypes.
  return Object.assign(Object.create(kernel) as Kernel, { substitutes });
}
