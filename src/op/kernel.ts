/** A WGSL module: the base name of its file under `kernels/`, and its source text. */
export interface Kernel {
  readonly name: string;
  readonly code: string;
}
