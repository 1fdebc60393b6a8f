// @ts-check
// Finds the Vulkan drivers of this machine by their description files (ICDs).
// Needs only Node and starts no process, so that the library, the scripts and the tests can share it.
import { existsSync, readdirSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { basename, delimiter, dirname, join } from "node:path";

/**
 * An installed driver. `icd` is the path of its description file, the value for VK_DRIVER_FILES.
 * @typedef {{ name: string, icd: string, software: boolean }} Driver
 */

const SOFTWARE = ["llvmpipe", "swiftshader"];

/** Driver names by the prefix of the description file's name, which is the same on all systems. */
const NAMES_BY_FILE = /** @type {const} */ ([
  ["nvidia_", "nvidia"],
  ["amd_", "amd"],
  ["radeon_", "amd"],
  ["intel_", "intel"],
  ["nouveau_", "nouveau"],
  ["asahi_", "asahi"],
  ["freedreno_", "freedreno"],
  ["panfrost_", "panfrost"],
  ["broadcom_", "broadcom"],
  ["powervr_", "powervr"],
  ["dzn_", "d3d12"],
  ["virtio_", "virtio"],
  ["gfxstream_", "gfxstream"],
  ["lvp_", "llvmpipe"],
  ["vk_swiftshader_", "swiftshader"],
]);

const ARCHITECTURES = { x64: "x86_64", arm64: "aarch64", arm: "arm", ia32: "i686" };

/**
 * All Vulkan drivers on this machine: GPU drivers first, then llvmpipe, then SwiftShader. They may not work; `probeDriver` in
 * probe.mjs tests that.
 * @returns {Driver[]}
 */
export function findDrivers() {
  if (process.platform !== "linux") return [];
  const files = [...systemFolders(), ...browserFolders()].flatMap(descriptionFiles);
  const drivers = [...new Set(files)].filter(fitsThisMachine).map(describeDriver);
  return drivers.sort((a, b) => rank(a) - rank(b));
}

/**
 * Environment variables with which a process uses only this driver.
 * @param {Driver} driver
 * @returns {Record<string, string>}
 */
export function driverEnvironment(driver) {
  const environment = { VK_DRIVER_FILES: driver.icd };
  // llvmpipe prints a warning if XDG_RUNTIME_DIR is not set.
  return process.env.XDG_RUNTIME_DIR ? environment : { ...environment, XDG_RUNTIME_DIR: tmpdir() };
}

/** Whether the kernel lists a GPU. If not, testing the GPU drivers would be a waste of time. */
export function hasGpu() {
  const nodes = [...list("/dev").filter((name) => /^(nvidia\d+|dxg|kfd)$/.test(name)), ...list("/dev/dri")];
  return nodes.some((name) => !name.startsWith("card") && name !== "by-path");
}

/**
 * The driver of a description file, derived from the file's name.
 * @param {string} icd
 * @returns {Driver}
 */
export function describeDriver(icd) {
  const file = basename(icd);
  const entry = NAMES_BY_FILE.find(([prefix]) => file.startsWith(prefix));
  const name = entry ? entry[1] : file.replace(/(_icd)?(\.\w+)?\.json$/, "");
  return { name, icd, software: SOFTWARE.includes(name) };
}

/** The folders that the Vulkan loader searches. */
function systemFolders() {
  const home = homedir();
  const { XDG_CONFIG_HOME, XDG_DATA_HOME, XDG_CONFIG_DIRS, XDG_DATA_DIRS } = process.env;
  const roots = [
    XDG_CONFIG_HOME || join(home, ".config"),
    ...split(XDG_CONFIG_DIRS || "/etc/xdg"),
    "/usr/local/etc",
    "/etc",
    XDG_DATA_HOME || join(home, ".local/share"),
    ...split(XDG_DATA_DIRS || "/usr/local/share:/usr/share"),
  ];
  return roots.map((root) => join(root, "vulkan/icd.d"));
}

/** Folders of Chromium and its derivatives, which contain SwiftShader. */
function browserFolders() {
  const caches = join(homedir(), ".cache");
  return [
    "/usr/lib/chromium",
    "/usr/lib64/chromium-browser",
    "/usr/lib/chromium-browser",
    "/opt/chromium.org/chromium",
    "/opt/google/chrome",
    "/opt/google/chrome-beta",
    "/opt/google/chrome-unstable",
    "/opt/microsoft/msedge",
    "/opt/brave.com/brave",
    "/snap/chromium/current/usr/lib/chromium-browser",
    ...foldersBelow(join(caches, "ms-playwright"), 2),
    ...foldersBelow(join(caches, "puppeteer"), 3),
  ];
}

/** @param {string} folder @param {number} depth @returns {string[]} */
function foldersBelow(folder, depth) {
  if (depth === 0) return [folder];
  return list(folder).flatMap((name) => foldersBelow(join(folder, name), depth - 1));
}

/** @param {string} folder */
function descriptionFiles(folder) {
  return list(folder)
    .filter((name) => /_icd(\.\w+)?\.json$/.test(name))
    .sort()
    .map((name) => join(folder, name));
}

/** Mesa may install drivers of several architectures, with the architecture in the file's name. @param {string} icd */
function fitsThisMachine(icd) {
  const architecture = /\.(x86_64|i[36]86|aarch64|arm\w*|riscv64|ppc64\w*)\.json$/.exec(icd)?.[1];
  const machine = ARCHITECTURES[/** @type {keyof typeof ARCHITECTURES} */ (process.arch)];
  return architecture === undefined || architecture === machine;
}

/** @param {Driver} driver */
function rank(driver) {
  const index = NAMES_BY_FILE.findIndex(([, name]) => name === driver.name);
  // A driver with an unknown name is a GPU's, and comes before the software drivers.
  return index < 0 ? NAMES_BY_FILE.findIndex(([, name]) => name === "llvmpipe") - 0.5 : index;
}

/**
 * Whether there is a Vulkan loader where Dawn looks for it: next to its own binary, next to Node, and on the system.
 * @param {string} [dawnFolder]
 */
export function hasVulkanLoader(dawnFolder) {
  const multiarch = list("/usr/lib").filter((name) => name.endsWith("-linux-gnu"));
  const folders = [
    ...(dawnFolder ? [dawnFolder] : []),
    dirname(process.execPath),
    ...split(process.env.LD_LIBRARY_PATH ?? ""),
    ...multiarch.map((name) => join("/usr/lib", name)),
    ...["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64", "/lib", "/lib64"],
  ];
  return folders.some((folder) => existsSync(join(folder, "libvulkan.so.1")));
}

/** @param {string} paths */
function split(paths) {
  return paths.split(delimiter).filter((path) => path !== "");
}

/** @param {string} folder */
function list(folder) {
  try {
    return readdirSync(folder);
  } catch {
    return []; // The folder does not exist or cannot be read.
  }
}
