// @ts-check
// Installs a software driver with apt, as root or with a password-less sudo, and says what went wrong where it fails.
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

/** One line of fact, one of remedy; the script prints both and stops. */
export class VulkanError extends Error {
  /** @param {string} fact @param {string} remedy */
  constructor(fact, remedy) {
    super(`${fact}\n${remedy}`);
    this.name = "VulkanError";
    this.fact = fact;
  }
}

/** Trying another package would meet the same lock. */
export class LockError extends VulkanError {}

export function readSystem() {
  const file = "/etc/os-release";
  return describeSystem(existsSync(file) ? readFileSync(file, "utf8") : "");
}

/** @returns {"root" | "sudo" | null} how this process can get root's rights without asking anybody */
export function rootAccess() {
  if (process.getuid?.() === 0) return "root";
  return spawnSync("sudo", ["-n", "true"], { stdio: "ignore" }).status === 0 ? "sudo" : null;
}

/**
 * @param {string[]} drivers names of software drivers
 * @returns {import("./recipes.mjs").Recipe[]} the ways to get one of these on this system, best first
 */
export function recipesOf(drivers) {
  return recipesFor(readSystem()).filter((recipe) => drivers.includes(recipe.driver));
}

/**
 * One shell command that does by hand what `install` does.
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
  // Lists what an update would fetch, from the sources alone: there may have been no update yet.
  const { stdout } = spawnSync("apt-get", ["--print-uris", "update"], { encoding: "utf8" });
  return backportsSource(stdout, readSystem(), recipe.release);
}

/** @param {string} command @param {"root" | "sudo"} access */
function runAsRoot(command, access) {
  const quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "sh", "-c", withOptions(command)];
  const [program, ...args] = access === "root" ? quiet : ["sudo", "-n", ...quiet];
  const { status, stderr, stdout } = spawnSync(String(program), args, { encoding: "utf8", maxBuffer: 2 ** 26 });
  if (status === 0) return;
  // A broken source of some third party fails the update, yet the archive that matters may have been read.
  if (command === "apt-get update" && !LOCKED.test(stderr)) warnOfUpdate(stderr);
  else throw failure(command, `${stdout}\n${stderr}`);
}

/**
 * Another installation may be at work, as often right after a machine's start; and an archive that cannot be reached is
 * to be an error, not a warning.
 * @param {string} command
 */
function withOptions(command) {
  return command.replace(/^apt-get /, "apt-get -o DPkg::Lock::Timeout=120 -o APT::Update::Error-Mode=any ");
}

/** @param {string} stderr */
function warnOfUpdate(stderr) {
  process.stderr.write(
    `apt-get update failed (${reasonIn(stderr)}); going on with the package lists that are there.\n`,
  );
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

/** apt's own words: its first line of error. @param {string} output */
function reasonIn(output) {
  const line = /^(?:E|W|dpkg): *(.*)$/m.exec(output)?.[1] ?? output.trim().split("\n").at(-1);
  return line || "no reason given";
}
