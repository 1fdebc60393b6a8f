import { findDrivers } from "../../scripts/vulkan/drivers.mjs";
import { probeDriver } from "../../scripts/vulkan/probe.mjs";

/** @throws Error if WebGPU has no adapter on the driver, so that a run of device tests fails before its first test. */
export async function requireDriver(name: string): Promise<void> {
  const driver = findDrivers().find((candidate) => candidate.name === name);
  if (driver && (await probeDriver(driver))) return;
  const fact = driver ? `The Vulkan driver ${driver.icd} gives WebGPU no adapter` : `No ${name} driver was found`;
  throw new Error(`${fact}, so the device tests cannot run on ${name}.\nRun: node scripts/ensure-vulkan.mjs --all`);
}
