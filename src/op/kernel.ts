/** A handwritten WGSL module: the base name of its file under `kernels/`, and its text. */
export interface Kernel {
  readonly name: string;
  readonly code: string;
}
