import type { Device } from "./device";
import { USAGE } from "./pool";
import type { Lease } from "./pool";

/** Copies a buffer to the host. The staging buffer is counted like any other and returned at once. */
export async function readBuffer(device: Device, lease: Lease): Promise<ArrayBuffer> {
  const staging = device.pool.lease(lease.bytes, "scratch", USAGE.mapRead | USAGE.copyTarget);
  try {
    const encoder = device.handle.createCommandEncoder();
    encoder.copyBufferToBuffer(lease.buffer, 0, staging.buffer, 0, lease.bytes);
    device.handle.queue.submit([encoder.finish()]);
    await staging.buffer.mapAsync(1);
    return staging.buffer.getMappedRange().slice(0);
  } finally {
    device.pool.return(staging);
  }
}
