// @ts-check
// The packages of each software driver on each system, and the commands that install them. install.mjs runs the commands.
import { existsSync } from "node:fs";

/**
 * @typedef {{ family: "debian" | "ubuntu" | "fedora" | "arch" | "suse" | "other", codename: string, major: number, name: string }} System
 * @typedef {{ driver: string, packages: string[], release?: string }} Recipe
 */

export const BACKPORTS_FILE = "/etc/apt/sources.list.d/safetape-backports.list";
const DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";
/** Mesa 22.3 in Debian 12 is too old for Dawn. Mesa in the main archive suffices from Debian 13 on. */
const FIRST_DEBIAN_WITH_RECENT_MESA = 13;

/**
 * The system that /etc/os-release describes.
 * @param {string} osRelease the file's text
 * @returns {System}
 */
export function describeSystem(osRelease) {
  const field = (/** @type {string} */ key) => new RegExp(`^${key}="?([^"\\n]*)"?$`, "m").exec(osRelease)?.[1] ?? "";
  const kinds = [field("ID"), ...field("ID_LIKE").split(" ")];
  const families = /** @type {const} */ (["ubuntu", "debian", "fedora", "arch", "suse"]);
  return {
    family: families.find((family) => kinds.some((kind) => kind.startsWith(family))) ?? "other",
    codename: field("VERSION_CODENAME"),
    // Debian testing and unstable have no number. They are newer than all releases.
    major: field("VERSION_ID") === "" ? Infinity : Number.parseInt(field("VERSION_ID"), 10),
    name: field("PRETTY_NAME") || field("ID") || "this system",
  };
}

/**
 * The ways to install a software driver, best first.
 * @param {System} system
 * @returns {Recipe[]}
 */
export function recipesFor(system) {
  if (system.family === "ubuntu") return [mesa()];
  if (system.family !== "debian") return [];
  const old = system.major < FIRST_DEBIAN_WITH_RECENT_MESA;
  return [old ? mesa(`${system.codename}-backports`) : mesa(), chromium()];
}

/** @param {string} [release] @returns {Recipe} */
function mesa(release) {
  const recipe = { driver: "llvmpipe", packages: ["mesa-vulkan-drivers", "libvulkan1"] };
  return release === undefined ? recipe : { ...recipe, release };
}

/** @returns {Recipe} */
function chromium() {
  return { driver: "swiftshader", packages: ["chromium", "libvulkan1"] };
}

/**
 * The shell commands of a recipe, which have to run as root, in this order.
 * @param {Recipe} recipe
 * @param {string | null} newSource the archive to add first, from `backportsSource`
 */
export function commandsFor(recipe, newSource) {
  const target = recipe.release ? `-t ${recipe.release} ` : "";
  return [
    ...(newSource ? [`echo '${newSource}' > ${BACKPORTS_FILE}`] : []),
    "apt-get update",
    `apt-get install -y --no-install-recommends ${target}${recipe.packages.join(" ")}`,
  ];
}

/**
 * The line that adds a release of the machine's own Debian mirror to apt's sources.
 * @param {string} uris what `apt-get --print-uris update` prints
 * @param {System} system
 * @param {string} release
 * @returns {string | null} null if the sources have the release already, or no mirror was found
 */
export function backportsSource(uris, system, release) {
  const archives = [...uris.matchAll(/^'([^']+)\/dists\/([^/']+)\/InRelease'/gm)];
  if (archives.some(([, , name]) => name === release)) return null;
  const mainReleases = [system.codename, "stable", "oldstable", "oldoldstable"];
  const mirror = archives.find(([, , name]) => name !== undefined && mainReleases.includes(name))?.[1];
  if (!mirror) return null;
  const signedBy = existsSync(DEBIAN_KEYRING) ? `[signed-by=${DEBIAN_KEYRING}] ` : "";
  return `deb ${signedBy}${mirror} ${release} main`;
}

/**
 * The command for installations that this script leaves to the user: Mesa on other systems, and Chromium on Ubuntu (a snap).
 * @param {System} system
 */
export function commandForOthers(system) {
  if (system.family === "ubuntu") return "sudo snap install chromium";
  if (system.family === "fedora") return "sudo dnf install -y mesa-vulkan-drivers vulkan-loader";
  if (system.family === "arch") return "sudo pacman -S --needed vulkan-swrast vulkan-icd-loader";
  if (system.family === "suse") return "sudo zypper install -y libvulkan_lvp libvulkan1";
  return null;
}
