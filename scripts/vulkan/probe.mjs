// @ts-check
// Tests whether WebGPU gets an adapter from a Vulkan driver, which takes a third of a second.
import { execFile } from "node:child_process";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { driverEnvironment } from "./drivers.mjs";

const ADAPTER_SCRIPT = fileURLToPath(new URL("adapter.mjs", import.meta.url));
const TIMEOUT_MILLISECONDS = 30_000;

/**
 * The fields of an adapter's GPUAdapterInfo.
 * @typedef {{ vendor: string, architecture: string, device: string, description: string, isFallbackAdapter: boolean }} AdapterInfo
 * @typedef {import("./drivers.mjs").Driver & { adapter: AdapterInfo }} WorkingDriver
 */

/**
 * The drivers that provide an adapter, in the given order. All are tested at the same time.
 * @param {import("./drivers.mjs").Driver[]} drivers
 * @returns {Promise<WorkingDriver[]>}
 */
export async function workingDrivers(drivers) {
  const answers = await Promise.all(drivers.map(probeDriver));
  return answers.filter((answer) => answer !== null);
}

/**
 * @param {import("./drivers.mjs").Driver} driver
 * @returns {Promise<WorkingDriver | null>} null if the driver provides no adapter, or a software adapter instead of a GPU's
 */
export async function probeDriver(driver) {
  const adapter = await askForAdapter(driverEnvironment(driver));
  if (adapter === null || adapter.isFallbackAdapter !== driver.software) return null;
  return { ...driver, adapter };
}

/**
 * @param {Record<string, string>} environment
 * @returns {Promise<AdapterInfo | null>}
 */
export function askForAdapter(environment) {
  const options = { env: { ...process.env, ...environment }, timeout: TIMEOUT_MILLISECONDS };
  return new Promise((resolve) => {
    execFile(process.execPath, [ADAPTER_SCRIPT], options, (error, stdout) => {
      resolve(error ? null : parseAnswer(stdout));
    });
  });
}

/** A driver may print lines before the answer. @param {string} stdout */
function parseAnswer(stdout) {
  try {
    return JSON.parse(stdout.slice(stdout.lastIndexOf("\n") + 1));
  } catch {
    return null;
  }
}

/** The folder of Dawn's binary, or null if the npm package `webgpu` is not installed. */
export function dawnFolder() {
  try {
    const entry = createRequire(import.meta.url).resolve("webgpu");
    return join(dirname(entry), "dist", `${process.platform}-${process.arch}`);
  } catch {
    return null;
  }
}
