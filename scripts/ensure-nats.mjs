#!/usr/bin/env node
// @ts-check
// Ensures that this machine has nats-server, with which runs of several devices are tested: one that is there (NATS_SERVER, or in
// PATH), or else one that is installed now (on Debian and Ubuntu, as root or with password-less sudo). Says which, or why there is none.
//
//   node scripts/ensure-nats.mjs
import { spawnSync } from "node:child_process";
import { realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { rootAccess } from "./vulkan/install.mjs";

/** Where packages put it, which is not in every user's PATH. */
const PROGRAMS = ["nats-server", "/usr/sbin/nats-server", "/usr/local/bin/nats-server"];
const INSTALL = "apt-get install -y --no-install-recommends nats-server";

/** @typedef {{ program: string, version: string } | { reason: string }} Found a server, or why there is none */

/**
 * The version of a server; undefined where it does not run.
 * @param {string} program
 */
function versionOf(program) {
  const { status, stdout } = spawnSync(program, ["--version"], { encoding: "utf8" });
  return status === 0 ? stdout.replace(/^nats-server: v?/, "").trim() : undefined;
}

function find() {
  const { NATS_SERVER } = process.env;
  for (const program of NATS_SERVER ? [NATS_SERVER] : PROGRAMS) {
    const version = versionOf(program);
    if (version !== undefined) return { program, version };
  }
  return undefined;
}

/** @returns {Found} */
export function ensureNats() {
  const found = find();
  if (found) return found;
  if (spawnSync("apt-get", ["--version"], { stdio: "ignore" }).status !== 0) {
    return { reason: "there is no nats-server, and no apt-get to install it: see https://nats.io/download" };
  }
  const access = rootAccess();
  if (access === null) return { reason: `there is no nats-server: run "sudo ${INSTALL}"` };
  process.stderr.write(`Installing nats-server (Debian's package): ${INSTALL}\n`);
  const command = ["env", "DEBIAN_FRONTEND=noninteractive", "sh", "-c", INSTALL];
  const [program = "", ...args] = access === "root" ? command : ["sudo", "-n", ...command];
  const { status, stderr } = spawnSync(program, args, { encoding: "utf8" });
  const installed = status === 0 ? find() : undefined;
  return installed ?? { reason: `nats-server could not be installed: ${stderr.trim().split("\n").at(-1) ?? ""}` };
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const found = ensureNats();
  const text =
    "program" in found ? `nats-server ${found.version}: ${found.program}` : `No nats-server: ${found.reason}`;
  process.stderr.write(`${text}\n`);
  if (!("program" in found)) process.exitCode = 1;
}
