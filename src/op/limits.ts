/** The adapter's limits that shape launches. */
export interface Limits {
  /** Most bytes of one storage binding (`maxStorageBufferBindingSize`). */
  readonly bindingBytes: number;
  /** Alignment of a binding's first byte (`minStorageBufferOffsetAlignment`). */
  readonly offsetAlignment: number;
  /** Most workgroups along one dimension of a grid. */
  readonly workgroupsPerDimension: number;
}

/** WebGPU's guaranteed limits: what a plan without a device assumes. */
export const DEFAULT_LIMITS: Limits = {
  bindingBytes: 128 * 1024 * 1024,
  offsetAlignment: 256,
  workgroupsPerDimension: 65535,
};
