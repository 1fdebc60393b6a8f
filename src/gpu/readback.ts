import type { Device } from "./device";
import { USAGE } from "./pool";
import type { Lease } from "./pool";

/** Part of a buffer, in bytes; both are multiples of 4. */
export interface ByteRange {
  readonly offset: number;
  readonly bytes: number;
}

/**
 * Copies a buffer to the host, or parts of it, one after the other. The staging buffer is counted like any other and
 * returned at once.
 */
export async function readBuffer(
  device: Device,
  lease: Lease,
  ranges: readonly ByteRange[] = [{ offset: 0, bytes: lease.bytes }],
): Promise<ArrayBuffer> {
  const total = ranges.reduce((sum, { bytes }) => sum + bytes, 0);
  const staging = device.pool.lease(total, "scratch", USAGE.mapRead | USAGE.copyTarget);
  try {
    const encoder = device.handle.createCommandEncoder();
    let to = 0;
    for (const { offset, bytes } of ranges) {
      encoder.copyBufferToBuffer(lease.buffer, offset, staging.buffer, to, bytes);
      to += bytes;
    }
    device.handle.queue.submit([encoder.finish()]);
    await staging.buffer.mapAsync(1);
    return staging.buffer.getMappedRange().slice(0);
  } finally {
    device.pool.return(staging);
  }
}
