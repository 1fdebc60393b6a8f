import type { Device } from "../../src/gpu/device";
import type { Lease } from "../../src/gpu/pool";

/** The first `count` floats of a buffer. */
export async function readFloats(device: Device, lease: Lease, count: number): Promise<Float32Array> {
  // MAP_READ and COPY_DST.
  const staging = device.handle.createBuffer({ size: lease.bytes, usage: 0x1 | 0x8 });
  const encoder = device.handle.createCommandEncoder();
  encoder.copyBufferToBuffer(lease.buffer, 0, staging, 0, lease.bytes);
  device.handle.queue.submit([encoder.finish()]);
  await staging.mapAsync(1);
  const data = new Float32Array(staging.getMappedRange().slice(0)).slice(0, count);
  staging.destroy();
  return data;
}
