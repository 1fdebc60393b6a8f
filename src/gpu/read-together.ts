import type { Device } from "./device";
import { USAGE } from "./pool";
import type { Memory } from "./pool";

/**
 * Copies several tensors to the host, one after the other, with as few waits as `maxBytes` of staging memory allow; at least
 * one tensor at a time. The ledger counts that memory while it exists.
 * @returns their contents as f32, one after the other.
 * @throws OutOfMemoryError when the driver has no memory for the staging buffer.
 */
export async function readTogether(
  device: Device,
  tensors: readonly Memory[],
  maxBytes = Infinity,
): Promise<Float32Array<ArrayBuffer>> {
  const values = new Float32Array(tensors.reduce((sum, { bytes }) => sum + bytes, 0) / 4);
  let offset = 0;
  for (const group of groupsOf(tensors, maxBytes)) {
    const part = await device.wait(readGroup(device, group));
    values.set(part, offset);
    offset += part.length;
  }
  return values;
}

function groupsOf(tensors: readonly Memory[], maxBytes: number): Memory[][] {
  const groups: Memory[][] = [];
  let groupBytes = Infinity;
  for (const tensor of tensors) {
    if (groupBytes + tensor.bytes > maxBytes || groups.length === 0) {
      groups.push([]);
      groupBytes = 0;
    }
    groups.at(-1)!.push(tensor);
    groupBytes += tensor.bytes;
  }
  return groups;
}

async function readGroup(device: Device, tensors: readonly Memory[]): Promise<Float32Array> {
  const { pool, handle } = device;
  const usage = USAGE.mapRead | USAGE.copyTarget;
  const total = tensors.reduce((sum, { bytes }) => sum + bytes, 0);
  const staging = await pool.checked("a copy to the host", () => pool.lease(total, "scratch", usage));
  try {
    const encoder = handle.createCommandEncoder();
    let offset = 0;
    for (const { buffer, offset: from, bytes } of tensors) {
      encoder.copyBufferToBuffer(buffer, from, staging.buffer, offset, bytes);
      offset += bytes;
    }
    handle.queue.submit([encoder.finish()]);
    await staging.buffer.mapAsync(USAGE.mapRead);
    return new Float32Array(staging.buffer.getMappedRange().slice(0));
  } finally {
    pool.return(staging);
  }
}
