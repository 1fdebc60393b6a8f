import type { Device } from "./device";
import { USAGE } from "./pool";
import type { Memory } from "./pool";

/** Part of a tensor's memory, in bytes. Both fields are multiples of 4. */
export interface ByteRange {
  readonly offset: number;
  readonly bytes: number;
}

/**
 * Copies some ranges of a tensor's memory to the host, one after the other (default: all of it). The ledger counts the
 * staging buffer while it exists.
 * @throws OutOfMemoryError when the driver has no memory for the staging buffer.
 */
export async function readBuffer(
  device: Device,
  memory: Memory,
  ranges: readonly ByteRange[] = [{ offset: 0, bytes: memory.bytes }],
): Promise<ArrayBuffer> {
  const total = ranges.reduce((sum, { bytes }) => sum + bytes, 0);
  const { pool } = device;
  const usage = USAGE.mapRead | USAGE.copyTarget;
  const staging = await pool.checked("a copy to the host", () => pool.lease(total, "scratch", usage));
  try {
    const encoder = device.handle.createCommandEncoder();
    let stagingOffset = 0;
    for (const { offset, bytes } of ranges) {
      encoder.copyBufferToBuffer(memory.buffer, memory.offset + offset, staging.buffer, stagingOffset, bytes);
      stagingOffset += bytes;
    }
    device.handle.queue.submit([encoder.finish()]);
    await staging.buffer.mapAsync(USAGE.mapRead);
    return staging.buffer.getMappedRange().slice(0);
  } finally {
    pool.return(staging);
  }
}
