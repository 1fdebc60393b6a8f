#!/usr/bin/env node
// @ts-check
// Ensures that this machine has a Vulkan driver with which WebGPU works: a GPU's driver, or else an installed software
// driver, or else a software driver that is installed now (on Debian and Ubuntu, as root or with password-less sudo).
//
//   node scripts/ensure-vulkan.mjs [--all] [--json]
//
// --all   both software drivers, llvmpipe and SwiftShader, even if there is a GPU: the tests run on each of them
// --json  prints {"drivers": [{name, icd, software, adapter, env}]} to stdout; everything else goes to stderr
import { realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { driverEnvironment, findDrivers, hasGpu, hasVulkanLoader } from "./vulkan/drivers.mjs";
import {
  LockError,
  VulkanError,
  install,
  manualCommand,
  readSystem,
  recipesOf,
  rootAccess,
} from "./vulkan/install.mjs";
import { askForAdapter, dawnFolder, workingDrivers } from "./vulkan/probe.mjs";

export { driverEnvironment, findDrivers } from "./vulkan/drivers.mjs";

const SOFTWARE = ["llvmpipe", "swiftshader"];

/** @typedef {import("./vulkan/probe.mjs").WorkingDriver} WorkingDriver */

/**
 * @param {{ all?: boolean }} [options]
 * @returns {Promise<WorkingDriver[]>} one driver, or with `all` both software drivers
 */
export async function ensureVulkan({ all = false } = {}) {
  if (dawnFolder() === null) {
    throw new VulkanError('The npm package "webgpu" is not installed, so no driver can be tested.', "Run: npm ci");
  }
  if (process.platform !== "linux") return [await nativeDriver()];
  return all ? ensureEach(SOFTWARE) : [await ensureOne()];
}

/** On macOS and Windows, Dawn uses Metal and Direct3D instead of Vulkan. */
async function nativeDriver() {
  const adapter = await askForAdapter({});
  if (adapter) return { name: "native", icd: "", software: adapter.isFallbackAdapter, adapter };
  throw new VulkanError(
    "WebGPU does not find an adapter on this machine.",
    "Update the graphics driver, then run this again.",
  );
}

async function ensureOne() {
  return (await chosenByUser()) ?? (await gpuDriver()) ?? (await softwareDriver(SOFTWARE)) ?? installFirst(SOFTWARE);
}

async function chosenByUser() {
  const { VK_DRIVER_FILES } = process.env;
  if (!VK_DRIVER_FILES) return null;
  const adapter = await askForAdapter({});
  if (adapter) return { name: "chosen", icd: VK_DRIVER_FILES, software: adapter.isFallbackAdapter, adapter };
  throw new VulkanError(
    `WebGPU gets no adapter from VK_DRIVER_FILES=${VK_DRIVER_FILES}.`,
    "Unset VK_DRIVER_FILES, or set it to the path of a driver that works.",
  );
}

async function gpuDriver() {
  if (!hasGpu()) return null;
  const [driver] = await workingDrivers(findDrivers().filter(({ software }) => !software));
  if (!driver) say("There is a GPU, but its Vulkan drivers provide no adapter; looking for a software driver.");
  return driver ?? null;
}

/**
 * The first of these drivers that works, or null. They are tested one after the other, since usually the first one works.
 * @param {string[]} names
 */
async function softwareDriver(names) {
  for (const driver of findDrivers().filter(({ name }) => names.includes(name))) {
    const [working] = await workingDrivers([driver]);
    if (working) return working;
  }
  return null;
}

/** @param {string[]} names */
async function ensureEach(names) {
  const working = await Promise.all(names.map((name) => softwareDriver([name])));
  const missing = names.filter((_, index) => working[index] === null);
  const installed = [];
  if (missing.length > 0 && rootAccess() === null) throw missingDriver(missing, manualCommand(recipesOf(missing)));
  for (const name of missing) installed.push(await installFirst([name]));
  return [...working.filter((driver) => driver !== null), ...installed];
}

/**
 * Tries the recipes for these drivers until one provides an adapter. Rejects with the last problem if none does.
 * @param {string[]} names
 */
async function installFirst(names) {
  const recipes = recipesOf(names);
  const access = rootAccess();
  if (access === null || recipes.length === 0) throw missingDriver(names, manualCommand(recipes.slice(0, 1)));
  let problem = missingDriver(names, null);
  for (const [index, recipe] of recipes.entries()) {
    if (index > 0) say(`${problem.fact}; trying another driver.`);
    try {
      return await installRecipe(recipe, access);
    } catch (error) {
      if (!(error instanceof VulkanError) || error instanceof LockError) throw error;
      problem = error;
    }
  }
  throw problem;
}

/**
 * @param {import("./vulkan/recipes.mjs").Recipe} recipe
 * @param {"root" | "sudo"} access
 */
async function installRecipe(recipe, access) {
  const from = recipe.release ? ` from ${recipe.release}` : "";
  say(`No ${recipe.driver} yet: installing ${recipe.packages.join(" and ")}${from} with apt.`);
  install(recipe, access);
  const driver = await softwareDriver([recipe.driver]);
  if (driver) return driver;
  throw noAdapterAfter(recipe.packages);
}

/**
 * @param {string[]} names
 * @param {string | null} command
 */
function missingDriver(names, command) {
  const fact = `No working Vulkan driver was found (of: ${names.join(", ")}).`;
  if (command) return new VulkanError(fact, `Run: ${command}`);
  const requirement = names.includes("llvmpipe")
    ? "Mesa 24 or later with its Vulkan drivers"
    : "Chromium or Google Chrome";
  return new VulkanError(fact, `Install ${requirement} on ${readSystem().name}, then run this command again.`);
}

/** @param {string[]} packages */
function noAdapterAfter(packages) {
  const loader = hasVulkanLoader(dawnFolder() ?? undefined) ? "" : "; libvulkan.so.1 was not found either";
  return new VulkanError(
    `${packages.join(" and ")} are installed, but WebGPU does not find an adapter${loader}.`,
    `Install Mesa 24 or later, or Chromium, on ${readSystem().name}, then run this command again.`,
  );
}

/** @param {string} line */
function say(line) {
  process.stderr.write(`${line}\n`);
}

async function main() {
  const drivers = await ensureVulkan({ all: process.argv.includes("--all") });
  for (const { name, icd, adapter } of drivers) say(`Vulkan driver: ${name} (${adapter.description}) ${icd}`);
  if (!process.argv.includes("--json")) return;
  const described = drivers.map((driver) => ({ ...driver, env: driver.icd ? driverEnvironment(driver) : {} }));
  process.stdout.write(`${JSON.stringify({ drivers: described })}\n`);
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  main().catch((/** @type {unknown} */ error) => {
    say(error instanceof VulkanError ? error.message : String(error instanceof Error ? error.stack : error));
    process.exitCode = 1;
  });
}
