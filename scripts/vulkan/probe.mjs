// @ts-check
// Whether a Vulkan driver really gives WebGPU an adapter: the only answer that counts, and it takes a third of a second.
import { execFile } from "node:child_process";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { driverEnvironment } from "./drivers.mjs";

const ADAPTER_SCRIPT = fileURLToPath(new URL("adapter.mjs", import.meta.url));
const TIMEOUT_MILLISECONDS = 30_000;

/**
 * What an adapter says about itself (GPUAdapterInfo).
 * @typedef {{ vendor: string, architecture: string, device: string, description: string, isFallbackAdapter: boolean }} AdapterInfo
 * @typedef {import("./drivers.mjs").Driver & { adapter: AdapterInfo }} WorkingDriver
 */

/**
 * The drivers among these that give an adapter, in the order given; all are asked at the same time.
 * @param {import("./drivers.mjs").Driver[]} drivers
 * @returns {Promise<WorkingDriver[]>}
 */
export async function workingDrivers(drivers) {
  const answers = await Promise.all(drivers.map(probeDriver));
  return answers.filter((answer) => answer !== null);
}

/**
 * @param {import("./drivers.mjs").Driver} driver
 * @returns {Promise<WorkingDriver | null>} null where the driver gives no adapter, or a software one in a GPU's name
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

/** A driver may print lines of its own before the answer. @param {string} stdout */
function parseAnswer(stdout) {
  try {
    return JSON.parse(stdout.slice(stdout.lastIndexOf("\n") + 1));
  } catch {
    return null;
  }
}

/** The folder of Dawn's binary, or null where the npm package `webgpu` is not installed. */
export function dawnFolder() {
  try {
    const entry = createRequire(import.meta.url).resolve("webgpu");
    return join(dirname(entry), "dist", `${process.platform}-${process.arch}`);
  } catch {
    return null;
  }
}
