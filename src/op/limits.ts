/** Limits of the GPU adapter that launches depend on. */
export interface Limits {
  /** Maximum bytes of one storage binding (`maxStorageBufferBindingSize`). */
  readonly bindingBytes: number;
  /** Alignment of a binding's offset in bytes (`minStorageBufferOffsetAlignment`). */
  readonly offsetAlignment: number;
  /** Maximum workgroups along one dimension of a dispatch (`maxComputeWorkgroupsPerDimension`). */
  readonly workgroupsPerDimension: number;
}

/** The limits that WebGPU guarantees. Plans made without a device assume them. */
export const DEFAULT_LIMITS: Limits = {
  bindingBytes: 128 * 1024 * 1024,
  offsetAlignment: 256,
  workgroupsPerDimension: 65535,
};
