#!/usr/bin/env node
// @ts-check
// Makes sure that this machine has a Vulkan driver with which WebGPU works: a GPU's if there is one, else a software
// driver that is already here, else one that is installed now (Debian and Ubuntu, with root or password-less sudo).
//
//   node scripts/ensure-vulkan.mjs [--all] [--json]
//
// --all   both software drivers, llvmpipe and SwiftShader, whatever the GPU: the tests run on each of them
// --json  prints {"drivers": [{name, icd, software, adapter, env}]} to stdout; all else goes to stderr
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
    throw new VulkanError('The npm package "webgpu" is not installed, so no driver can be tried.', "Run: npm ci");
  }
  if (process.platform !== "linux") return [await nativeDriver()];
  return all ? ensureEach(SOFTWARE) : [await ensureOne()];
}

/** macOS and Windows have no use for Vulkan: Dawn speaks Metal and Direct3D there. */
async function nativeDriver() {
  const adapter = await askForAdapter({});
  if (adapter) return { name: "native", icd: "", software: adapter.isFallbackAdapter, adapter };
  throw new VulkanError("WebGPU finds no adapter on this machine.", "Update the graphics driver, then run this again.");
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
    `VK_DRIVER_FILES=${VK_DRIVER_FILES} gives WebGPU no adapter.`,
    "Unset VK_DRIVER_FILES, or set it to the path of a driver that works.",
  );
}

async function gpuDriver() {
  if (!hasGpu()) return null;
  const [driver] = await workingDrivers(findDrivers().filter(({ software }) => !software));
  if (!driver) say("A GPU is present, but no Vulkan driver of it gives an adapter; looking for a software driver.");
  return driver ?? null;
}

/**
 * The first of these that works, asked one after the other: most often the first one does.
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
  const found = await Promise.all(names.map((name) => softwareDriver([name])));
  const missing = names.filter((_, index) => found[index] === null);
  const installed = [];
  if (missing.length > 0 && rootAccess() === null) throw missingDriver(missing, manualCommand(recipesOf(missing)));
  for (const name of missing) installed.push(await installFirst([name]));
  return [...found.filter((driver) => driver !== null), ...installed];
}

/**
 * Tries the recipes for these drivers in turn until one leads to an adapter.
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
  const fact = `No working Vulkan driver was found (wanted: ${names.join(", ")}).`;
  if (command) return new VulkanError(fact, `Run: ${command}`);
  const wanted = names.includes("llvmpipe") ? "Mesa 24 or later with its Vulkan drivers" : "Chromium or Google Chrome";
  return new VulkanError(fact, `Install ${wanted} on ${readSystem().name}, then run this command again.`);
}

/** @param {string[]} packages */
function noAdapterAfter(packages) {
  const loader = hasVulkanLoader(dawnFolder() ?? undefined) ? "" : "; libvulkan.so.1 was not found either";
  return new VulkanError(
    `${packages.join(" and ")} are installed, yet WebGPU finds no adapter${loader}.`,
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
