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
 * @throws OutOfMemoryError when the driver has no memory for it.
 */
export async function readBuffer(
  device: Device,
  lease: Lease,
  ranges: readonly ByteRange[] = [{ offset: 0, bytes: lease.bytes }],
): Promise<ArrayBuffer> {
  const total = ranges.reduce((sum, { bytes }) => sum + bytes, 0);
  const { pool } = device;
  const usage = USAGE.mapRead | USAGE.copyTarget;
  const staging = await pool.checked("a copy to the host", () => pool.lease(total, "scratch", usage));
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
    pool.return(staging);
  }
}
