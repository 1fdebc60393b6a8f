import { openDevice } from "../../src/gpu/device";
import type { Device } from "../../src/gpu/device";
import { nodeGpu } from "../../src/node/gpu";
import { napping } from "../../src/node/napping";
import type { Limits } from "../../src/op/limits";

let gpu: GPU | undefined;

/** A device on the adapter that this test project names. Fails, rather than skips, where there is none. */
export async function testDevice(limits: Partial<Limits> = {}): Promise<Device> {
  gpu ??= await nodeGpu();
  const device = await openDevice(gpu, { limits, waiting: napping });
  const wanted = process.env["SAFETAPE_ADAPTER"];
  const found = `${device.info.description} ${device.info.device} ${device.info.architecture}`.toLowerCase();
  if (wanted && !found.includes(wanted)) throw new Error(`These tests want ${wanted} and got ${found}.`);
  return device;
}
