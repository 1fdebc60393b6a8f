import { openDevice } from "../../src/gpu/device";
import type { Device } from "../../src/gpu/device";
import type { VariantChoice } from "../../src/gpu/variants";
import { nodeGpu } from "../../src/node/gpu";
import { napping } from "../../src/node/napping";
import type { Limits } from "../../src/op/limits";

let gpu: GPU | undefined;

/**
 * A device on the adapter that the test project names in SAFETAPE_ADAPTER.
 * @throws Error if there is none, so that device tests fail instead of being skipped.
 */
export async function testDevice(limits: Partial<Limits> = {}, variants?: VariantChoice): Promise<Device> {
  gpu ??= await nodeGpu();
  const device = await openDevice(gpu, { limits, waiting: napping, variants });
  const required = process.env["SAFETAPE_ADAPTER"];
  const adapter = `${device.info.description} ${device.info.device} ${device.info.architecture}`.toLowerCase();
  if (required && !adapter.includes(required)) {
    throw new Error(`These tests run on the adapter ${required}, but the device is on ${adapter}.`);
  }
  return device;
}
