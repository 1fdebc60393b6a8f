// @ts-check
// Installs a software driver with apt, as root or with password-less sudo, and explains failures.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, rmSync } from "node:fs";
import {
  BACKPORTS_FILE,
  backportsSource,
  commandForOthers,
  commandsFor,
  describeSystem,
  recipesFor,
} from "./recipes.mjs";

const LOCKED = /Could not get lock|Unable to (lock|acquire)|another process using it/;

/** An error with one line of fact and one of remedy. The script prints both and stops. */
export class VulkanError extends Error {
  /** @param {string} fact @param {string} remedy */
  constructor(fact, remedy) {
    super(`${fact}\n${remedy}`);
    this.name = "VulkanError";
    this.fact = fact;
  }
}

/** The package manager is locked, which would also stop the installation of any other package. */
export class LockError extends VulkanError {}

export function readSystem() {
  const file = "/etc/os-release";
  return describeSystem(existsSync(file) ? readFileSync(file, "utf8") : "");
}

/** @returns {"root" | "sudo" | null} how this process can run commands as root without a password; null if it cannot */
export function rootAccess() {
  if (process.getuid?.() === 0) return "root";
  return spawnSync("sudo", ["-n", "true"], { stdio: "ignore" }).status === 0 ? "sudo" : null;
}

/**
 * @param {string[]} drivers names of software drivers
 * @returns {import("./recipes.mjs").Recipe[]} the ways to install one of these on this system, best first
 */
export function recipesOf(drivers) {
  return recipesFor(readSystem()).filter((recipe) => drivers.includes(recipe.driver));
}

/**
 * A shell command with which a user can install what `install` would.
 * @param {import("./recipes.mjs").Recipe[]} recipes
 * @returns {string | null}
 */
export function manualCommand(recipes) {
  if (recipes.length === 0) return commandForOthers(readSystem());
  const lines = [...new Set(recipes.flatMap((recipe) => commandsFor(recipe, newSource(recipe))))];
  const hasSudo = spawnSync("sudo", ["-V"], { stdio: "ignore" }).status === 0;
  const script = lines.join(" && ").replaceAll("'", '"');
  return hasSudo ? `sudo sh -c '${script}'` : `su -c '${script}'`;
}

/**
 * @param {import("./recipes.mjs").Recipe} recipe
 * @param {"root" | "sudo"} access
 */
export function install(recipe, access) {
  const source = newSource(recipe);
  try {
    for (const command of commandsFor(recipe, source)) runAsRoot(command, access);
  } catch (error) {
    if (source && access === "root") rmSync(BACKPORTS_FILE, { force: true });
    else if (source) spawnSync("sudo", ["-n", "rm", "-f", BACKPORTS_FILE]);
    throw error;
  }
}

/** @param {import("./recipes.mjs").Recipe} recipe */
function newSource(recipe) {
  if (recipe.release === undefined) return null;
  // Lists what an update would fetch. This works before the first update.
  const { stdout } = spawnSync("apt-get", ["--print-uris", "update"], { encoding: "utf8" });
  return backportsSource(stdout, readSystem(), recipe.release);
}

/** @param {string} command @param {"root" | "sudo"} access */
function runAsRoot(command, access) {
  const quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "sh", "-c", withOptions(command)];
  const [program, ...args] = access === "root" ? quiet : ["sudo", "-n", ...quiet];
  const { status, stderr, stdout } = spawnSync(String(program), args, { encoding: "utf8", maxBuffer: 2 ** 26 });
  if (status === 0) return;
  // One broken third-party source makes the update fail even if the archive that matters was read.
  if (command === "apt-get update" && !LOCKED.test(stderr)) warnOfUpdate(stderr);
  else throw failure(command, `${stdout}\n${stderr}`);
}

/**
 * Adds options to apt-get: to wait for another installation, which often runs right after a machine's start, and to fail if
 * an archive cannot be reached.
 * @param {string} command
 */
function withOptions(command) {
  return command.replace(/^apt-get /, "apt-get -o DPkg::Lock::Timeout=120 -o APT::Update::Error-Mode=any ");
}

/** @param {string} stderr */
function warnOfUpdate(stderr) {
  process.stderr.write(`apt-get update failed (${reasonIn(stderr)}); continuing with the existing package lists.\n`);
}

/** @param {string} command @param {string} output */
function failure(command, output) {
  if (LOCKED.test(output)) {
    return new LockError(
      `"${command}" failed: another program holds the package manager's lock.`,
      "Wait until that installation ends, then run this command again.",
    );
  }
  return new VulkanError(
    `"${command}" failed: ${reasonIn(output)}`,
    "Check the machine's network, free disk space and /etc/apt sources, then run this command again.",
  );
}

/** apt's first error message. @param {string} output */
function reasonIn(output) {
  const line = /^(?:E|W|dpkg): *(.*)$/m.exec(output)?.[1] ?? output.trim().split("\n").at(-1);
  return line || "no reason given";
}
