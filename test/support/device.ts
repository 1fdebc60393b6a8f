import { openDevice } from "../../src/gpu/device";
import type { Device } from "../../src/gpu/device";
import type { Lease } from "../../src/gpu/pool";
import { nodeGpu } from "../../src/node/gpu";
import type { Limits } from "../../src/op/limits";

let gpu: GPU | undefined;

/** A device on the adapter that this test project names. Fails, rather than skips, where there is none. */
export async function testDevice(limits: Partial<Limits> = {}): Promise<Device> {
  gpu ??= await nodeGpu();
  const device = await openDevice(gpu, { limits });
  const wanted = process.env["SAFETAPE_ADAPTER"];
  const found = `${device.info.description} ${device.info.device} ${device.info.architecture}`.toLowerCase();
  if (wanted && !found.includes(wanted)) throw new Error(`These tests want ${wanted} and got ${found}.`);
  return device;
}

/** The f32 contents of a buffer. */
export async function readFloats(device: Device, lease: Lease, count: number): Promise<Float32Array> {
  const staging = device.handle.createBuffer({ size: lease.bytes, usage: 0x1 | 0x8 });
  const encoder = device.handle.createCommandEncoder();
  encoder.copyBufferToBuffer(lease.buffer, 0, staging, 0, lease.bytes);
  device.handle.queue.submit([encoder.finish()]);
  await staging.mapAsync(1);
  const data = new Float32Array(staging.getMappedRange().slice(0)).slice(0, count);
  staging.destroy();
  return data;
}
